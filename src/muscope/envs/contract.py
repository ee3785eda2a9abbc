"""Whether an environment keeps the rules of :mod:`muscope.envs.base`, tried before long work.

Everything above ``envs/`` takes the rules for granted, and an environment that breaks one would
train without an error and give figures that mean nothing.  Each refusal is one line that names
the rule and the mend.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from muscope import plugins
from muscope.envs.base import PARTS, Trainable
from muscope.envs.host import HostEnvironment
from muscope.envs.trial import structure
from muscope.errors import ConfigError, MuscopeError
from muscope.host_call import host_errors

LANES, STEPS = 8, 64  # of the trial
GAMES, CHUNK = 96, 32  # of the search for an end, if the trial met none, and steps between looks
PATIENCE = 1.0  # s after which that search gives up, its compilation not counted
TRUSTED = (
    "muscope.envs.atari",
    "muscope.envs.cart_pole",
    "muscope.envs.lunar_lander.environment",
)
"""Modules of the environments that muscope's own tests try."""


def check(environment: Any) -> None:
    """Try an environment against every rule; muscope's own are trusted.

    Args:
        environment: what should be a :class:`muscope.envs.base.Environment`.

    Raises:
        ConfigError: it breaks one; the message names the rule and the mend.

    """
    if type(environment).__module__ in TRUSTED:
        return
    check_spec(environment)
    _check_shapes(environment)
    if isinstance(environment, Trainable):
        view = environment.training()
        check_spec(view)
        _check_shapes(view)
    _check_trial(environment)


def _broken(environment: Any, what: str) -> ConfigError:
    name = getattr(getattr(environment, "spec", None), "name", type(environment).__name__)
    return ConfigError(f"environment '{name}': {what}.")


UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises where a function asks for the number that an array holds."""


def _reason(error: Exception) -> str:
    """An error in the environment's code, where it is, and its mend if that is known."""
    if isinstance(error, UNTRACEABLE):
        return (
            f"it needs the value of an array while JAX traces it; write jnp.where(condition, a, b) "
            f"for 'if', '... if ... else ...', 'and' and 'or', and leave out float(), int() and "
            f"bool(): {plugins.told(error)}"
        )
    return plugins.told(error)


def _traced(environment: Any, name: str, function: Callable[..., Any], *given: Any) -> Any:
    """``function(*given)``, where an error is the environment's."""
    try:
        return function(*given)
    except MuscopeError:
        raise
    except Exception as error:
        raise _broken(environment, f"{name} cannot be traced by JAX: {_reason(error)}") from error


def _is_whole(value: Any, least: int) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and bool(value >= least)


def check_spec(environment: Any) -> None:
    """Whether it has all parts, and a spec that one can work with.

    Raises:
        ConfigError: it has not; the message names the mend.

    """
    for part in PARTS:
        if not hasattr(environment, part):
            raise _broken(environment, f"it has no {part}; see muscope.envs.base.Environment")
    spec = environment.spec
    fields = ("name", "num_actions", "observation_shape", "time_limit")
    missing = [field for field in fields if not hasattr(spec, field)]
    if missing:
        raise _broken(environment, f"its spec has no {missing[0]}; make it a muscope.envs.Spec")
    for field, least in (("num_actions", 1), ("time_limit", 1)):
        if not _is_whole(getattr(spec, field), least):
            value = getattr(spec, field)
            raise _broken(environment, f"spec.{field} is {value!r}; it must be at least {least}")
    shape = spec.observation_shape
    if not (isinstance(shape, tuple) and all(_is_whole(size, 1) for size in shape)):
        raise _broken(
            environment, f"spec.observation_shape is {shape!r}; it must be a tuple of sizes: (4,)"
        )


def _check_shapes(environment: Any) -> None:
    """What the three functions give, without running them."""

    def traced(name: str, *given: Any) -> Any:
        function = getattr(environment, name)
        return _traced(environment, name, lambda *x: jax.eval_shape(function, *x), *given)

    state = traced("reset", jax.random.key(0))
    if not jax.tree.leaves(state):
        raise _broken(environment, "reset gives a state without arrays; a state holds all it needs")
    _check_observation(environment, traced("observe", state))
    moved = traced("step", state, jax.ShapeDtypeStruct((), jnp.int32))
    for field in ("state", "reward", "terminated"):
        if not hasattr(moved, field):
            kind = type(moved).__name__
            raise _broken(environment, f"step gives a {kind}; return a muscope.envs.Transition")
    _check_same(environment, state, moved.state)
    if not _is_array(moved.reward, (), jnp.floating):
        raise _broken(
            environment, f"step's reward is {_kind(moved.reward)}; it must be one float (shape ())"
        )
    if not _is_array(moved.terminated, (), jnp.bool_):
        raise _broken(
            environment,
            f"step's terminated is {_kind(moved.terminated)}; it must be one bool (shape ())",
        )


def _check_observation(environment: Any, seen: Any) -> None:
    shape = tuple(environment.spec.observation_shape)
    if not isinstance(seen, jax.ShapeDtypeStruct):
        raise _broken(
            environment,
            f"observe gives a {type(seen).__name__}; it must be one array: join its parts, for "
            "instance with jnp.concatenate",
        )
    if not _is_array(seen, shape, jnp.floating):
        raise _broken(
            environment,
            f"observe gives {_kind(seen)}; by spec.observation_shape it must be floats of shape "
            f"{shape}",
        )


def _check_same(environment: Any, before: Any, after: Any) -> None:
    """A stepped state has the structure, shapes and types of one that reset gives."""
    if structure(before) != structure(after):
        raise _broken(
            environment, "step gives a state of another structure than reset; use one class"
        )
    leaves = jax.tree_util.tree_leaves_with_path(before)
    for (path, old), new in zip(leaves, jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            where = f"state{jax.tree_util.keystr(path)}"
            raise _broken(environment, f"step makes {where} {_kind(new)}; reset gives {_kind(old)}")


def _is_array(value: Any, shape: tuple[int, ...], kind: Any) -> bool:
    return (
        isinstance(value, jax.ShapeDtypeStruct)
        and value.shape == shape
        and jnp.issubdtype(value.dtype, kind)
    )


def _kind(value: Any) -> str:
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"{value.dtype} of shape {value.shape}"
    return f"a {type(value).__name__}"


class _Trail(NamedTuple):
    """Random play, [STEPS + 1, LANES] and [STEPS, LANES]; a game that ends is stepped further."""

    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray


def _check_trial(environment: Any) -> None:
    """Random games: finite, absorbing at the end, and the same when played again."""
    play = _player(environment)
    trail = _played(environment, play)
    _check_finite(environment, trail)
    _check_end(environment, _after_ends(trail))
    if not trail.terminated.any():
        _search_end(environment)
    for again in (_played(environment, play), _played(environment, _player(environment))):
        _check_repeats(environment, trail, again)


def _player(environment: Any) -> Callable[..., Any]:
    """A program of its own, so that random numbers drawn by Python while JAX traces show."""

    def play(keys: Any, actions: Any) -> Any:
        def step(states: Any, chosen: Any) -> Any:
            moved = jax.vmap(environment.step)(states, chosen)
            seen = jax.vmap(environment.observe)(moved.state)
            return moved.state, _Trail(seen, moved.reward, moved.terminated)

        states = jax.vmap(environment.reset)(keys)
        return jax.vmap(environment.observe)(states), jax.lax.scan(step, states, actions)[1]

    return jax.jit(play)


def _played(environment: Any, play: Callable[..., Any]) -> _Trail:
    rng = np.random.default_rng(0)
    actions = rng.integers(environment.spec.num_actions, size=(STEPS, LANES), dtype=np.int32)
    keys = jax.random.split(jax.random.key(0), LANES)

    def run() -> _Trail:
        with host_errors():
            first, trail = jax.device_get(play(keys, actions))
        seen = np.concatenate([first[None], trail.observation])
        return _Trail(seen, trail.reward, trail.terminated)

    return _traced(environment, "step", run)


def _check_finite(environment: Any, trail: _Trail) -> None:
    for name, values in (("observe", trail.observation), ("step's reward", trail.reward)):
        wrong = ~np.isfinite(values).reshape(*values.shape[:2], -1).all(axis=-1)
        if wrong.any():
            t = int(np.flatnonzero(wrong.any(axis=1))[0]) + (values is trail.reward)
            raise _broken(
                environment, f"{name} is not finite after {t} random steps; bound what grows"
            )


class _Steps(NamedTuple):
    """What the rule about ends is tried on, [any steps, games]."""

    was: np.ndarray
    """The stepped state was terminated."""
    now: np.ndarray
    """The new one is."""
    paid: np.ndarray
    """The reward is not 0."""
    moved: np.ndarray
    """The observation has changed."""


def _after_ends(trail: _Trail) -> _Steps:
    was, now, reward = trail.terminated[:-1], trail.terminated[1:], trail.reward[1:]
    seen = trail.observation[1:].reshape(STEPS, LANES, -1)
    moved = (seen[:-1] != seen[1:]).any(axis=-1)
    return _Steps(was, now, reward != 0, moved)


def _search_end(environment: Any) -> None:
    """Play on until games end, and try the rule there; one line if none does.

    Games play evenly at random, or hold one action, or hold each for a while, up to the time limit.
    Ends that training meets later are not tried: it leaves a game there, and keeps observations,
    not states that could be stepped again.  Host environments need no search: their ends are held
    by :class:`muscope.envs.host.HostEnvironment`, whatever the simulator does.
    """
    if isinstance(environment, HostEnvironment):
        return
    spec = environment.spec
    begin, go_on = _seeker(environment)
    games, until, played, ended = _traced(environment, "reset", begin), math.inf, 0, False
    while ended or (played < spec.time_limit and time.monotonic() < until):
        games, (steps, finite) = _traced(environment, "step", go_on, games, played)
        steps, finite = jax.device_get((steps, finite))
        until = min(until, time.monotonic() + PATIENCE)
        played += CHUNK
        if not finite.all():
            what = f"observe or step's reward is not finite within {played} steps"
            raise _broken(environment, f"{what}; bound what grows")
        _check_end(environment, steps)
        if steps.was.any():
            return
        ended = steps.now.any()  # With the very last step; the next ones try it.
    print(
        f"muscope: environment '{spec.name}': none of {GAMES} games of {played} steps "
        "ended, so the rule that an end is absorbing is untried.",
        file=sys.stderr,
    )


def _seeker(environment: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Programs that start :data:`GAMES` games, and that play :data:`CHUNK` steps of them."""
    actions = environment.spec.num_actions
    game = jnp.arange(GAMES)
    change = jnp.select([game % 3 == 0, game % 3 == 1], [1.0, 0.0], 0.1)

    def step(carry: Any, key: Any) -> Any:
        states, was, held = carry
        drawn = jax.random.randint(key, (GAMES,), 0, actions)
        changes = jax.random.uniform(jax.random.fold_in(key, 1), (GAMES,)) < change
        held = jnp.where(changes | was, drawn, held)  # An end must withstand every action.
        before = jax.vmap(environment.observe)(states).reshape(GAMES, -1)
        moved = jax.vmap(environment.step)(states, held)
        seen = jax.vmap(environment.observe)(moved.state).reshape(GAMES, -1)
        finite = jnp.isfinite(seen).all(axis=-1) & jnp.isfinite(moved.reward)
        steps = _Steps(was, moved.terminated, moved.reward != 0, (before != seen).any(axis=-1))
        return (moved.state, moved.terminated, held), (steps, finite)

    def begin() -> Any:
        keys = jax.random.split(jax.random.key(1), GAMES)
        return jax.vmap(environment.reset)(keys), jnp.zeros(GAMES, bool), game // 3 % actions

    def go_on(games: Any, played: Any) -> Any:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(2), played), CHUNK)
        return jax.lax.scan(step, games, keys)

    return jax.jit(begin), jax.jit(go_on)


def _check_end(environment: Any, steps: _Steps) -> None:
    """A terminated state stays as it is, at reward 0."""
    for what, wrong in (
        ("becomes alive again", steps.was & ~steps.now),
        ("gives a reward that is not 0", steps.was & steps.paid),
        ("changes", steps.was & steps.moved),
    ):
        if wrong.any():
            raise _broken(
                environment,
                f"a terminated state that is stepped {what}; termination is absorbing: return the "
                "same state, reward 0 and terminated true (jnp.where on the old terminated)",
            )


def _check_repeats(environment: Any, trail: _Trail, again: _Trail) -> None:
    if not np.array_equal(trail.observation[0], again.observation[0]):
        raise _broken(environment, "reset gives another state for the same key; use the key alone")
    names = {"observation": "observations", "reward": "rewards", "terminated": "ends"}
    for name, words in names.items():
        if not np.array_equal(getattr(trail, name), getattr(again, name)):
            raise _broken(
                environment,
                f"the same states and actions gave other {words} the second time; step must depend "
                "on its arguments alone, randomness belongs into reset",
            )
