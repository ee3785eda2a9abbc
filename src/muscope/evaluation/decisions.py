"""What a planner's decision is worth in the true environment, against the policy prior's own.

Every action is valued: Q(s, a) is the discounted return of taking it and then following the
policy prior.  A planner's improvement is the Q of the action it chooses (mean over equally
visited ones) less the prior's own mean, the quantity that the policy improvement theorem asks to
be positive.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from muscope.agent import Agent
from muscope.config import SearchConfig
from muscope.envs import Environment, State
from muscope.evaluation.planners import MODELS, PRIORS, Planner, doubled, plan
from muscope.evaluation.play import prior_logits, prior_policy
from muscope.evaluation.trajectories import plan_in_pairs

AT_ONCE = 8
"""Episodes of every action that are followed together, which bounds the memory."""
PLANNERS = tuple((model, prior) for model in MODELS for prior in PRIORS)


class Decisions(NamedTuple):
    """One agent's decisions at M states: improvements by planner in the order of :data:`PLANNERS`,
    model errors by prior.

    The fields are the columns of their names in the table ``decisions``, whose meanings stand in
    its schema (``docs/tables.md``).
    """

    improvement: Float[Array, "4 M"]
    best: Float[Array, "M"]
    model_error: Float[Array, "2 M"]


def decide(
    environment: Environment,
    truth: Environment,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    horizon: int,
    sequences: int,
    q_horizon: int,
) -> Decisions:
    """Let all planners decide, with rollout leaves, and value their decisions.

    Args:
        environment: the game, in which actions are valued.
        truth: the true model, over the same states.
        agent: the networks.
        states: pytree of [M, ...].
        key: consumed.
        config: the search's settings.
        discount: gamma.
        horizon: H of the search.
        sequences: R, episodes of the prior per action.
        q_horizon: steps of the prior after the action.

    """
    q_key, learned_key, true_key = jax.random.split(key, 3)
    returns = action_values(environment, agent, states, q_key, sequences, q_horizon, discount)
    q = jnp.mean(returns, axis=0)
    prior = jax.nn.softmax(prior_logits(truth, agent, states))
    usual = jnp.sum(prior * q, axis=-1)

    roots, guided = doubled(states)
    learned = plan_in_pairs(truth, agent, roots, guided, horizon, learned_key, config, discount)
    planner = Planner("true", "rollout", horizon)
    true = plan(planner, truth, agent, roots, guided, true_key, config, discount)
    chosen = [
        value_of(q, visits)
        for result in (learned, true)
        for visits in jnp.split(result.visits, len(PRIORS))
    ]
    errors, _ = learned.trace
    return Decisions(
        jnp.stack(chosen) - usual,
        best_value(returns) - usual,
        jnp.mean(errors.whole, axis=0).reshape(len(PRIORS), -1),
    )


def action_values(
    environment: Environment,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    count: int,
    horizon: int,
    discount: float,
) -> Float[Array, "R M A"]:
    """Q(s, a) of following the policy prior for ``horizon`` steps after a, per episode.

    Args:
        environment: the true environment.
        agent: whose prior is followed.
        states: pytree of [M, ...].
        key: consumed.
        count: R, episodes per action; the actions of a state share their random numbers.
        horizon: steps after the action.
        discount: gamma.

    """
    actions = environment.spec.num_actions
    policy = prior_policy(environment, agent)

    def after(action):
        return jax.vmap(lambda s: environment.step(s, action))(states)

    first = jax.vmap(after)(jnp.arange(actions))  # [A, M]

    def episode(key):
        def step(carry, inputs):
            places, total = carry
            key, power = inputs
            # One key for all actions: common random numbers.
            chosen = jax.vmap(lambda s: policy(s, key))(places)
            following = jax.vmap(jax.vmap(environment.step))(places, chosen)
            return (following.state, total + power * following.reward), None

        powers = discount ** jnp.arange(1, horizon + 1)
        inputs = (jax.random.split(key, horizon), powers)
        return jax.lax.scan(step, (first.state, first.reward), inputs)[0][1]

    totals = jax.lax.map(episode, jax.random.split(key, count), batch_size=min(count, AT_ONCE))
    return jnp.swapaxes(totals, 1, 2)


def best_value(returns: Float[Array, "R M A"]) -> Float[Array, "M"]:
    """max_a Q(s, a), chosen on one half of the episodes and valued on the other, both ways.

    Chosen and valued on the same episodes it would be too high wherever actions are alike.
    """
    half = returns.shape[0] // 2
    if half == 0:
        return jnp.max(returns[0], axis=-1)
    first, second = jnp.mean(returns[:half], axis=0), jnp.mean(returns[half:], axis=0)

    def of(chooser: Float[Array, "M A"], judge: Float[Array, "M A"]) -> Float[Array, "M"]:
        return jnp.take_along_axis(judge, jnp.argmax(chooser, axis=-1)[:, None], axis=-1)[:, 0]

    return 0.5 * (of(first, second) + of(second, first))


def value_of(q: Float[Array, "M A"], visits: Float[Array, "M A"]) -> Float[Array, "M"]:
    """Q of the most visited action, mean over equally visited ones."""
    best = visits == jnp.max(visits, axis=-1, keepdims=True)
    return jnp.sum(jnp.where(best, q, 0.0), axis=-1) / jnp.sum(best, axis=-1)
