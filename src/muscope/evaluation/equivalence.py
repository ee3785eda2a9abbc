"""Order-h value equivalence: what h steps of a model and a value function are off by.

A model is value equivalent of order h for a set of policies and one of functions if its h-step
Bellman operators give what the environment's give (Grimm et al. 2020, Definition 1; of order h,
Grimm et al. 2021, Section 3).  For a policy, a function v of latent states and a state s_t the
difference is

    sum_{k<h} gamma^k (r_{t+k} - u_t^k) + gamma^h (v(h(s_{t+h})) - v(z_t^h)),

with actions drawn from the policy in the environment, as in Definition 2 of the paper, which is
its first sum alone.  A search that ends h steps deep adds up the same rewards and one value, so
this is the error that it meets.

The end of an episode: true rewards are 0 afterwards and so is the true state's value.  A model's
own u and v count there too, as a search would take them.  A random function, whom nobody has told
about ends, counts as 0 on both sides instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.agent import Agent, Latent
from muscope.agent.base import Foretold, flat
from muscope.config import SearchConfig
from muscope.envs import Environment, State
from muscope.evaluation.play import Behaviour, muzero_behaviour, prior_logits
from muscope.evaluation.value_error import error_of, follow, values

MUZERO, PRIOR, UNIFORM = range(3)
"""Kinds of policies: Equation 1, the policy prior, and every action alike."""
UNITS = 64
"""Of a random function's hidden layer: those of muscope's own value heads by default."""
TINY = 1e-6
"""Least spread divided by."""


class Functions(NamedTuple):
    """Value functions of one agent's latent states, F of them."""

    of: Callable[[Latent], Float[Array, "F"]]
    told_of_ends: Bool[Array, "F"]
    """Whether they were trained to be 0 after an end."""


class OrderErrors(NamedTuple):
    """A model on one policy, for F functions and horizons 1..h; means over states.

    The fields are the columns of their names in the table ``equivalence``, whose meanings stand in
    its schema (``docs/tables.md``).
    """

    error: Float[Array, "F h"]
    standard_error: Float[Array, "F h"]
    states_error: Float[Array, "F h"]
    absolute_error: Float[Array, "F h"]
    squared_error: Float[Array, "F h"]
    squared_noise: Float[Array, "F h"]
    rewards_error: Float[Array, "F h"]
    value_error: Float[Array, "F h"]
    spread: Float[Array, "F h"]
    ended: Float[Array, "F h"]


class Differences(NamedTuple):
    """Truth less model at M states for R sequences each, for F functions and horizons 1..h."""

    rewards: Float[Array, "M R h"]
    """The sum over rewards, Definition 2's."""
    value: Float[Array, "F M R h"]
    """The discounted difference of the function's values."""
    true: Float[Array, "F M R h"]
    """What h true steps and the true state's value come to."""
    over: Bool[Array, "M R h"]
    """Whether the true episode was over after so many steps."""


def behaviour_of(
    environment: Environment,
    actor: Agent,
    search: SearchConfig,
    discount: float,
    kind: Int[Array, ""] | int,
    temperature: Float[Array, ""] | float,
) -> Behaviour:
    """One of the kinds of policies of an agent; ``kind`` may be traced, and one program serves
    all of them.
    """
    searching = muzero_behaviour(environment, actor, search, discount, temperature)
    actions = environment.spec.num_actions

    def logits(states: State, key: Key[Array, ""]) -> Float[Array, "L A"]:
        count = jax.tree.leaves(states)[0].shape[0]
        branches = (
            lambda: searching(states, key),
            lambda: prior_logits(environment, actor, states),
            lambda: jnp.zeros((count, actions)),
        )
        return jax.lax.switch(kind, branches)

    return logits


def functions_of(
    model: Agent,
    others: Agent | None,
    roots: Latent,
    key: Key[Array, ""],
    count: int,
) -> Functions:
    """The agent's own value network, random ones, and those of other agents of its kind.

    Args:
        model: whose latent states they are functions of.
        others: a pytree of [Y, ...], whose f is asked about the model's latent states; None for
            none.
        roots: latent states [M, ...], at which random functions get the mean and the spread of
            the model's own, so that errors can be compared.
        key: draws the random functions; consumed.
        count: how many of these there are.

    """
    own = jax.vmap(lambda z: model.predict(z).value)(roots)
    numbers = jax.vmap(flat)(roots)
    drawn = [random_function(k, numbers, own) for k in jax.random.split(key, count)]

    def of(z: Latent) -> Float[Array, "F"]:
        x = flat(z)
        found = [model.predict(z).value, *(f(x) for f in drawn)]
        if others is None:
            return jnp.stack(found)
        of_others = jax.vmap(lambda agent: agent.predict(z).value)(others)
        return jnp.concatenate([jnp.stack(found), of_others])

    size = jax.eval_shape(of, jax.tree.map(lambda x: x[0], roots)).shape[0]
    places = jnp.arange(size)
    return Functions(of, (places == 0) | (places > count))


def random_function(
    key: Key[Array, ""], numbers: Float[Array, "M D"], like: Float[Array, "M"]
) -> Callable[[Float[Array, "D"]], Float[Array, ""]]:
    """A freshly drawn network of one hidden layer, shifted and scaled to the mean and the spread
    of ``like`` at the places ``numbers``; ``key`` is consumed.
    """
    hidden_key, out_key = jax.random.split(key)
    size = numbers.shape[1]
    hidden = jax.random.normal(hidden_key, (size, UNITS)) * (2.0 / size) ** 0.5
    out = jax.random.normal(out_key, (UNITS,)) * (2.0 / UNITS) ** 0.5

    def raw(x: Float[Array, "D"]) -> Float[Array, ""]:
        return jax.nn.relu(x @ hidden) @ out

    there = jax.vmap(raw)(numbers)
    scale = jnp.std(like) / jnp.maximum(jnp.std(there), TINY)
    return lambda x: jnp.mean(like) + scale * (raw(x) - jnp.mean(there))


def can_ask_others(latent: Latent) -> bool:
    """Whether another agent's f can be asked about such latent states: not if they carry what
    their own f says of them.
    """
    return not isinstance(latent, Foretold)


def differences(
    environment: Environment,
    model: Agent,
    others: Agent | None,
    behaviour: Behaviour,
    states: State,
    follow_key: Key[Array, ""],
    functions_key: Key[Array, ""],
    discount: float,
    sequences: int,
    horizon: int,
    count: int,
) -> Differences:
    """Follow a policy in the true environment, and the same actions in a model.

    Args:
        environment: the true one.
        model: whose model, and whose representation of true states.
        others: see :func:`functions_of`.
        behaviour: the policy.
        states: [M, ...] to start from, none of them terminal.
        follow_key: draws the actions; consumed.
        functions_key: draws the random functions; consumed.
        discount: gamma.
        sequences: R, of each state.
        horizon: h.
        count: random functions.

    """

    def encoded(state: State) -> Latent:
        return model.represent(environment.observe(state))

    roots = jax.vmap(encoded)(states)
    functions = functions_of(model, others, roots, functions_key, count)
    followed = follow(
        environment,
        behaviour,
        states,
        sequences,
        horizon,
        follow_key,
        look=lambda state: functions.of(encoded(state)),
    )

    def unrolled(root: Latent, actions: Int[Array, "h"]) -> tuple[Array, Array]:
        def step(z: Latent, action: Int[Array, ""]) -> tuple[Latent, tuple[Array, Array]]:
            following, reward = model.step(z, action)
            return following, (reward, functions.of(following))

        return jax.lax.scan(step, root, actions)[1]

    of_state = jax.vmap(unrolled, in_axes=(None, 0))
    predicted, said = jax.vmap(of_state)(roots, followed.actions)

    over = followed.over[..., None]
    true = jnp.where(over, 0.0, followed.seen)
    said = jnp.where(over & ~functions.told_of_ends, 0.0, said)
    true, said = (jnp.moveaxis(x, -1, 0) for x in (true, said))
    powers = discount ** jnp.arange(1, horizon + 1)
    return Differences(
        values(followed.path.reward - predicted, discount),
        powers * (true - said),
        values(followed.path.reward, discount) + powers * true,
        followed.over,
    )


def report_on(found: Differences) -> OrderErrors:
    """Means over states of all that the table tells."""
    states = found.rewards.shape[0]
    by_state = jax.vmap(jax.vmap(error_of))(found.rewards + found.value)
    state_spread = jnp.std(by_state.error, axis=1, ddof=1) if states > 1 else jnp.nan
    plain = jnp.zeros_like(by_state.error[:, 0])

    def of_part(part: Float[Array, "*parts M R h"]) -> Float[Array, "F h"]:
        return plain + jnp.mean(jnp.abs(jnp.mean(part, axis=-2)), axis=-2)

    return OrderErrors(
        error=jnp.mean(by_state.error, axis=1),
        standard_error=jnp.mean(by_state.standard_error, axis=1),
        states_error=plain + state_spread / jnp.sqrt(states),
        absolute_error=jnp.mean(by_state.absolute_error, axis=1),
        squared_error=jnp.mean(by_state.squared_error, axis=1),
        squared_noise=jnp.sqrt(jnp.sum(by_state.squared_variance, axis=1)) / states,
        rewards_error=of_part(found.rewards),
        value_error=of_part(found.value),
        spread=jnp.std(found.true, axis=(1, 2)),
        ended=plain + jnp.mean(found.over.astype(jnp.float32), axis=(0, 1)),
    )
