"""The parts of a run whose seconds are asked for, as functions of one agent.

Calibration runs them, and estimates count their operations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from muscope.agent import convolution, networks
from muscope.agent.networks import MuZero
from muscope.config import Config
from muscope.envs import Environment, State
from muscope.room import nbytes
from muscope.search import Parts, search
from muscope.training.agent import AgentProgram, AgentState, Trained
from muscope.work import Kind

MOST_REPLAY = 100e6
"""Bytes of an agent's replay that an update is tried with at most; how long a draw takes depends
on its rows a little."""
LANES = 64
"""Of which a lane of an environment is told as a share."""
PRODUCTS = ("dot_general", "conv_general_dilated", convolution.NAME)
"""Primitives whose outputs are sums of products."""
TINY = 1e-30
"""Makes a loop's next round depend on the last one without changing its numbers."""


class Runs(NamedTuple):
    """How often :func:`networks_of` does each of its parts."""

    encoding: Any = 0
    model: Any = 0
    prediction: Any = 0
    simulation: Any = 0


def nothing_but_the_tree(actions: int) -> Parts:
    """A search's parts that take no time."""

    def value(z: Any) -> Float[Array, ""]:
        return TINY * jnp.ravel(jax.tree.leaves(z)[0])[0]

    return Parts(
        step=lambda z, action: (z, value(z)),
        prior=lambda z: jnp.zeros(actions) + value(z),
        leaf=lambda z, depth, key: value(z),
    )


def networks_of(
    config: Config, environment: Environment, lanes: int
) -> Callable[[Key[Array, ""], MuZero, Array, Runs], Any]:
    """A program that encodes, steps and predicts in some lanes, and grows their trees, as often
    as its second argument says.
    """
    spec = environment.spec

    def program(key: Key[Array, ""], agent: MuZero, seen: Array, runs: Runs) -> Any:
        actions = jnp.arange(lanes) % spec.num_actions

        def encode(_: Array, seen: Array) -> Array:
            return seen + TINY * _sum(jax.vmap(agent.represent)(seen))

        def step(_: Array, z: Any) -> Any:
            following, reward = jax.vmap(agent.step)(z, actions)
            return jax.tree.map(lambda x: x + TINY * jnp.sum(reward), following)

        def predict(_: Array, z: Any) -> Any:
            said = _sum(jax.vmap(agent.predict)(z))
            return jax.tree.map(lambda x: x + TINY * said, z)

        seen = jax.lax.fori_loop(0, runs.encoding, encode, seen)
        z = jax.vmap(agent.represent)(seen)
        z = jax.lax.fori_loop(0, runs.model, step, z)
        z = jax.lax.fori_loop(0, runs.prediction, predict, z)
        tree = nothing_but_the_tree(spec.num_actions)
        discount = config.environment.discount
        grown = search(tree, z, key, config.search, discount, budget=runs.simulation)
        return jnp.sum(grown.visits) + TINY * _sum(z)

    return program


def _sum(tree: Any) -> Float[Array, ""]:
    return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(tree)), jnp.zeros(()))


class RandomPlay(NamedTuple):
    """Episodes of random play."""

    lengths: Int[Array, "lanes"]
    steps: Int[Array, ""]
    """Calls of the environment."""
    state: State


def random_play(
    environment: Environment, lanes: int
) -> Callable[[Key[Array, ""], Int[Array, ""], Int[Array, ""]], RandomPlay]:
    """A program that resets some lanes so often, and plays at most so many moves."""
    actions = environment.spec.num_actions

    def program(key: Key[Array, ""], resets: Int[Array, ""], most: Int[Array, ""]) -> RandomPlay:
        def reset(number: Int[Array, ""], _: State) -> State:
            keys = jax.random.split(jax.random.fold_in(key, number), lanes)
            return jax.vmap(environment.reset)(keys)

        shape = jax.eval_shape(lambda: reset(jnp.int32(0), None))
        empty = jax.tree.map(_zeros, shape)
        state = jax.lax.fori_loop(0, resets, reset, empty)

        def going(carry: Any) -> Any:
            _, _, over, steps = carry
            return (steps < most) & ~jnp.all(over)

        def move(carry: Any) -> Any:
            state, lengths, over, steps = carry
            drawn = jax.random.randint(jax.random.fold_in(key, steps), (lanes,), 0, actions)
            moved = jax.vmap(environment.step)(state, drawn)
            return moved.state, lengths + ~over, over | moved.terminated, steps + 1

        begin = (state, jnp.zeros(lanes, jnp.int32), jnp.zeros(lanes, bool), jnp.int32(0))
        state, lengths, _, steps = jax.lax.while_loop(going, move, begin)
        return RandomPlay(lengths, steps, state)

    return program


def updating(config: Config) -> Callable[[Key[Array, ""], MuZero, Int[Array, ""]], Any]:
    """A program that does so many gradient updates, on a replay of zeros."""
    program, described = _with_less_replay(config)

    def run(key: Key[Array, ""], agent: MuZero, count: Int[Array, ""]) -> Any:
        memory = jax.tree.map(_zeros, described.replay)
        trained = Trained(agent, jax.tree.map(_zeros, described.terms))
        memory = memory._replace(
            weight=jnp.ones_like(memory.weight), written=jnp.int32(memory.weight.shape[0])
        )

        # Of the replay only the weights go round, as in training: its rows would be copied.
        def update(number: Int[Array, ""], carry: Any) -> Any:
            trained, optimiser, weight = carry
            drawn = jax.random.fold_in(key, number)
            rows = memory._replace(weight=weight)
            trained, optimiser, rows, _ = program.update(trained, optimiser, rows, number, drawn)
            return trained, optimiser, rows.weight

        begin = (trained, program.optimiser.init(trained.all), memory.weight)
        trained, _, weight = jax.lax.fori_loop(0, count, update, begin)
        return _sum(trained) + jnp.sum(weight)

    return run


def _zeros(described: Any) -> Array:
    """An array of a description; random keys are no numbers."""
    if jax.dtypes.issubdtype(described.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), described.shape)
    return jnp.zeros(described.shape, described.dtype)


def _with_less_replay(config: Config) -> tuple[AgentProgram, AgentState]:
    """A training program and its state's shapes, the replay no larger than :data:`MOST_REPLAY`."""
    program = AgentProgram(config)
    state = jax.eval_shape(program.initial, jax.random.key(0))
    size = nbytes(state.replay)
    if size <= MOST_REPLAY:
        return program, state
    window = config.loss.unroll + config.loss.n_step + 1
    least = max(config.replay.start, window * config.train.lanes)
    capacity = max(least, int(config.replay.capacity * MOST_REPLAY / size))
    smaller = dataclasses.replace(
        config, replay=dataclasses.replace(config.replay, capacity=capacity)
    )
    program = AgentProgram(smaller)
    return program, jax.eval_shape(program.initial, jax.random.key(0))


class Sized(NamedTuple):
    """What a part does for one lane."""

    operations: float
    outputs: float
    """Bytes that its operations give."""
    equations: int
    """That JAX traces, loops' bodies once."""
    kernels: int
    """Products and convolutions, loops counted in full."""


def form(config: Config, environment: Environment) -> MuZero:
    """An agent's arrays as shapes."""
    spec = environment.spec
    return jax.eval_shape(lambda key: networks.build(config.network, spec, key), jax.random.key(0))


def sizes(config: Config, environment: Environment) -> dict[Kind, Sized]:
    """Of every kind of work that is done in one lane; an update's lanes are its positions."""
    spec, agent = environment.spec, form(config, environment)
    seen = jax.ShapeDtypeStruct(spec.observation_shape, jnp.float32)
    z = jax.eval_shape(lambda agent, seen: agent.represent(seen), agent, seen)
    action, key = jax.ShapeDtypeStruct((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(environment.reset, key)
    h = sized(lambda agent, seen: agent.represent(seen), agent, seen)
    g = sized(lambda agent, z, action: agent.step(z, action), agent, z, action)
    f = sized(lambda agent, z: agent.predict(z), agent, z)
    unroll, more = config.loss.unroll, of_terms(config)
    update = Sized(
        3 * (h.operations + unroll * g.operations + (unroll + 1) * f.operations + more.operations),
        3 * (h.outputs + unroll * g.outputs + (unroll + 1) * f.outputs + more.outputs),
        4 * (h.equations + g.equations + f.equations + more.equations) + 900,
        3 * (h.kernels + unroll * g.kernels + f.kernels + more.kernels),
    )
    return {
        "encoding": h,
        "model": g,
        "prediction": f,
        "update": update,
        "environment": _of_many(environment.step, state, action),
        "reset": _of_many(environment.reset, key),
        "simulation": Sized(200.0, 200.0, 300, 0),  # Per node; see search/tree.py.
    }


def of_terms(config: Config) -> Sized:
    """What auxiliary losses add to the forward pass of one position of an update."""
    with_terms = AgentProgram(config)
    if not with_terms.terms:
        return Sized(0.0, 0.0, 0, 0)
    plain = dataclasses.replace(config, terms={}, loss=dataclasses.replace(config.loss, terms=()))
    index = jax.ShapeDtypeStruct((1,), jnp.int32)
    whole, without = (
        sized(program.losses_of, jax.eval_shape(program.initial, jax.random.key(0)), index)
        for program in (with_terms, AgentProgram(plain))
    )
    return Sized(
        whole.operations - without.operations,
        whole.outputs - without.outputs,
        whole.equations - without.equations,
        whole.kernels - without.kernels,
    )


def sized(function: Callable[..., Any], *arguments: Any) -> Sized:
    """Of one function, from what JAX traces."""
    return _sized(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of_many(function: Callable[..., Any], *arguments: Any) -> Sized:
    """As :func:`sized`, as a share of many lanes, because environments may batch their own."""
    many = jax.tree.map(lambda x: jax.ShapeDtypeStruct((LANES, *x.shape), x.dtype), arguments)
    size = sized(jax.vmap(function), *many)
    return size._replace(operations=size.operations / LANES, outputs=size.outputs / LANES)


def _sized(jaxpr: Any) -> Sized:
    operations = outputs = 0.0
    equations = kernels = 0
    for equation in jaxpr.eqns:
        inner = [_sized(j) for j in _inside(equation)]
        rounds = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        operations += rounds * sum(x.operations for x in inner)
        outputs += rounds * sum(x.outputs for x in inner)
        kernels += rounds * sum(x.kernels for x in inner)
        equations += 1 + sum(x.equations for x in inner)
        if not inner:
            given = sum(int(np.prod(out.aval.shape)) for out in equation.outvars)
            product = equation.primitive.name in PRODUCTS
            operations += given * (_per_output(equation) if product else 1)
            outputs += 4.0 * given
            kernels += product
    return Sized(operations, outputs, equations, kernels)


def _inside(equation: Any) -> list[Any]:
    values = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns"))
    inner = [getattr(value, "jaxpr", value) for value in values]
    return [jaxpr for jaxpr in inner if hasattr(jaxpr, "eqns")]


def _per_output(equation: Any) -> float:
    """Operations for each number that a product or a convolution gives."""
    left, right = (variable.aval.shape for variable in equation.invars[:2])
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2.0 * float(np.prod([left[i] for i in contracted]))
    ours = equation.primitive.name == convolution.NAME
    given = 3 if ours else equation.params["dimension_numbers"].rhs_spec[0]
    return 2.0 * float(np.prod(right)) / right[given]
