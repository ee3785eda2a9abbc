"""Value equivalence of a learned model: Equations 3 to 5 and 7 of the paper.

Everything but :func:`follow` is written for one state (and one action sequence); callers
``jax.vmap``.  One pass over the longest horizon gives all shorter ones, because values are
running sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.agent import Agent
from muscope.envs import Environment, State
from muscope.evaluation.distinct import ask_distinct, numbered
from muscope.evaluation.play import Behaviour


class TruePath(NamedTuple):
    """What an action sequence does in the true environment, from the state s_t."""

    reward: Float[Array, "*batch h"]
    """r_t .. r_{t+h-1}"""
    ended: Bool[Array, "*batch h"]
    """Whether s_{t+k} was terminal before its action was taken (so r_{t+k} = 0)."""


class Rewards(NamedTuple):
    """The same action sequence in the true and in the learned model."""

    true: Float[Array, "*batch h"]
    """r_{t+k}"""
    predicted: Float[Array, "*batch h"]
    """u_t^k"""
    ended: Bool[Array, "*batch h"]
    """Whether the true episode was over before step k."""


class PolicyError(NamedTuple):
    """Definition 2 at one state, estimated from R action sequences, for horizons 1..h."""

    error: Float[Array, "h"]
    """|mean over R of (v - v_hat)|"""
    standard_error: Float[Array, "h"]
    """Monte Carlo standard error of that mean; an error well below it is not resolved."""
    absolute_error: Float[Array, "h"]
    """mean over R of |v - v_hat|: Definition 1 averaged, never less than ``error``"""
    squared_error: Float[Array, "h"]
    """The product of the means of v - v_hat over two halves of the R sequences.  Unbiased for the
    square of the error that infinitely many would give, where |mean over R| is biased upward; may
    be negative.  NaN for R = 1."""
    squared_variance: Float[Array, "h"]
    """Monte Carlo variance of ``squared_error``."""


def true_path(environment: Environment, state: State, actions: Int[Array, "h"]) -> TruePath:
    """Step the true environment along ``actions``; no time limit applies."""

    def step(carry, action):
        state, over = carry
        moved = environment.step(state, action)
        return (moved.state, over | moved.terminated), TruePath(moved.reward, over)

    # A state counts as over from the first terminating step on; starting states are not.
    return jax.lax.scan(step, (state, jnp.array(False)), actions)[1]


def predicted_rewards(
    agent: Agent, observation: Float[Array, "..."], actions: Int[Array, "h"]
) -> Float[Array, "h"]:
    """u_t^0 .. u_t^{h-1}: the learned model unrolled from the encoded observation."""

    def step(z, action):
        return agent.step(z, action)

    return jax.lax.scan(step, agent.represent(observation), actions)[1]


def score(
    environment: Environment, agent: Agent, state: State, actions: Int[Array, "h"]
) -> Rewards:
    """Score one action sequence from one state in both models."""
    path = true_path(environment, state, actions)
    predicted = predicted_rewards(agent, environment.observe(state), actions)
    return Rewards(path.reward, predicted, path.ended)


def constant(rewards: Rewards, reward: Float[Array, ""] | float) -> Rewards:
    """A model that knows nothing but one number, which it predicts for every step."""
    return rewards._replace(predicted=jnp.full_like(rewards.true, reward))


def values(rewards: Float[Array, "*batch h"], discount: float) -> Float[Array, "*batch h"]:
    """Equations 3 and 4: entry h - 1 is the sum over k < h of gamma^k times reward k."""
    powers = discount ** jnp.arange(rewards.shape[-1])
    return jnp.cumsum(rewards * powers, axis=-1)


def sequence_error(
    true: Float[Array, "*batch h"], predicted: Float[Array, "*batch h"], discount: float
) -> Float[Array, "*batch h"]:
    """Definition 1 (Equation 5) for horizons 1..h, from the rewards of one action sequence."""
    return jnp.abs(values(true - predicted, discount))


def policy_error(rewards: Rewards, discount: float) -> PolicyError:
    """Definition 2 (Equation 7) at one state, for horizons 1..h.

    Args:
        rewards: of R sequences [R, h] drawn from the policy in the true environment.
        discount: gamma.

    The pairs share their actions, so much of the Monte Carlo noise cancels in v - v_hat;
    what is left biases the absolute value upward by less than ``standard_error``.

    """
    return error_of(values(rewards.true - rewards.predicted, discount))


def error_of(difference: Float[Array, "R h"]) -> PolicyError:
    """The error at one state, for horizons 1..h, from v - v_hat of R sequences."""
    count = difference.shape[0]
    unknown = jnp.full_like(difference[0], jnp.nan)
    spread = jnp.std(difference, axis=0, ddof=1) if count > 1 else unknown
    squared, variance = split_halves(difference, spread) if count > 1 else (unknown, unknown)
    return PolicyError(
        jnp.abs(jnp.mean(difference, axis=0)),
        spread / jnp.sqrt(count),
        jnp.mean(jnp.abs(difference), axis=0),
        squared,
        variance,
    )


def split_halves(
    difference: Float[Array, "R h"], spread: Float[Array, "h"]
) -> tuple[Float[Array, "h"], Float[Array, "h"]]:
    """The product of two halves' means, and its variance.

    The halves are independent, so the product's expectation is the square of the mean's.  With
    means of variance a and b about m, the product's variance is m^2 (a + b) + a b.

    Args:
        difference: v - v_hat of R > 1 sequences; the halves are the first R // 2 and the rest.
        spread: their standard deviation.

    """
    count = difference.shape[0]
    half = count // 2
    product = jnp.mean(difference[:half], axis=0) * jnp.mean(difference[half:], axis=0)
    a, b = spread**2 / half, spread**2 / (count - half)
    return product, jnp.maximum(product, 0.0) * (a + b) + a * b


def split_at_the_end(
    rewards: Rewards, discount: float
) -> tuple[Float[Array, "*batch h"], Float[Array, "*batch h"]]:
    """Where the difference v_hat - v comes from, for horizons 1..h; the two parts add up to it.

    Returns:
        The part predicted while the true episode was going on, and the part predicted after
        its true end (where every true reward is 0).

    """
    difference = rewards.predicted - rewards.true
    alive = values(jnp.where(rewards.ended, 0.0, difference), discount)
    over = values(jnp.where(rewards.ended, difference, 0.0), discount)
    return alive, over


class Followed(NamedTuple):
    """What a policy did from M states in the true environment, R times from each."""

    actions: Int[Array, "M R h"]
    path: TruePath
    over: Bool[Array, "M R h"]
    """Whether the episode was over after step k: ``path.ended`` one step later."""
    seen: Any
    """What was looked at in the states after each step, [M, R, h, ...]."""


def follow(
    environment: Environment,
    behaviour: Behaviour,
    states: State,
    sequences: int,
    horizon: int,
    key: Key[Array, ""],
    look: Callable[[State], Any] = lambda state: (),
) -> Followed:
    """Act ``horizon`` steps from every state in the true environment, ``sequences`` times.

    Sequences of one state that have done the same so far are asked for their next action
    together (:mod:`muscope.evaluation.distinct`), so they break the search's ties alike.

    Args:
        environment: the true environment.
        behaviour: the policy.
        states: pytree of [M, ...].
        sequences: R, of each state.
        horizon: h.
        key: consumed.
        look: what is wanted of a state that a step has led to, a pytree of arrays; nothing by
            default.

    Returns:
        What happened; the policy goes on in a terminal state.

    """
    count = jax.tree.leaves(states)[0].shape[0]

    def step(carry, key):
        states, over, classes = carry
        ask_key, action_key = jax.random.split(key)
        logits = ask_distinct(behaviour, states, classes, ask_key)
        action = jax.random.categorical(action_key, logits).astype(jnp.int32)
        moved = jax.vmap(environment.step)(states, action)
        classes = numbered(classes * logits.shape[-1] + action)
        after = over | moved.terminated
        seen = jax.vmap(look)(moved.state)
        return (moved.state, after, classes), (action, TruePath(moved.reward, over), after, seen)

    begin = (
        jax.tree.map(lambda x: jnp.repeat(x, sequences, axis=0), states),
        jnp.zeros(count * sequences, bool),
        jnp.repeat(jnp.arange(count, dtype=jnp.int32), sequences),
    )
    _, taken = jax.lax.scan(step, begin, jax.random.split(key, horizon))

    def by_state(x: Array) -> Array:
        return jnp.swapaxes(x, 0, 1).reshape(count, sequences, horizon, *x.shape[2:])

    return Followed(*jax.tree.map(by_state, taken))
