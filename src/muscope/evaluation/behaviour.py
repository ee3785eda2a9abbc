"""How wrong a model is on a behaviour policy: Definition 2, and what stands beside it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from muscope.agent import Agent
from muscope.config import SearchConfig
from muscope.envs import Environment, State
from muscope.evaluation.play import muzero_behaviour
from muscope.evaluation.value_error import (
    Rewards,
    constant,
    follow,
    policy_error,
    predicted_rewards,
    split_at_the_end,
    values,
)


class PolicyReport(NamedTuple):
    """A model on one policy, for horizons 1..h; means over states.

    The fields are the columns of their names in the table ``figure3``, whose meanings stand in its
    schema (``docs/tables.md``).
    """

    error: Float[Array, "h"]
    standard_error: Float[Array, "h"]
    states_error: Float[Array, "h"]
    absolute_error: Float[Array, "h"]
    squared_error: Float[Array, "h"]
    squared_noise: Float[Array, "h"]
    alive_error: Float[Array, "h"]
    ended_error: Float[Array, "h"]
    reward_error: Float[Array, "h"]
    reward_size: Float[Array, "h"]
    ended: Float[Array, "h"]
    average_reward_error: Float[Array, "h"]
    spread: Float[Array, "h"]


def behaviour_rewards(
    environment: Environment,
    model: Agent,
    actor: Agent,
    states: State,
    key: Key[Array, ""],
    search: SearchConfig,
    discount: float,
    temperature: Float[Array, ""] | float,
    sequences: int,
    horizon: int,
) -> Rewards:
    """Follow one checkpoint's pi_MuZero in the true environment, score it in another's model.

    Args:
        environment: the true one.
        model: whose model predicts.
        actor: whose search acts (Figure 3: the same).
        states: [M, ...] to start from.
        key: consumed.
        search: settings of the actor's search.
        discount: gamma.
        temperature: the actor's T.
        sequences: R, of each state.
        horizon: h.

    Returns:
        True and predicted rewards [M, R, h].

    """
    behaviour = muzero_behaviour(environment, actor, search, discount, temperature)
    actions, path, _, _ = follow(environment, behaviour, states, sequences, horizon, key)
    observations = jax.vmap(environment.observe)(states)

    def predicted(observation: Array, actions: Int[Array, "R h"]) -> Float[Array, "R h"]:
        return jax.vmap(lambda a: predicted_rewards(model, observation, a))(actions)

    return Rewards(path.reward, jax.vmap(predicted)(observations, actions), path.ended)


def report_on(rewards: Rewards, discount: float) -> PolicyReport:
    """Means over states of everything Figure 3 tells, from rewards [M, R, h]."""
    states = rewards.true.shape[0]
    errors_of = jax.vmap(lambda r: policy_error(r, discount))
    model = errors_of(rewards)
    know_nothing = errors_of(constant(rewards, jnp.mean(rewards.true)))
    alive, over = split_at_the_end(rewards, discount)
    spread = jnp.std(values(rewards.true, discount), axis=1)
    state_spread = jnp.std(model.error, axis=0, ddof=1) if states > 1 else jnp.nan
    return PolicyReport(
        error=jnp.mean(model.error, axis=0),
        standard_error=jnp.mean(model.standard_error, axis=0),
        states_error=state_spread / jnp.sqrt(states) + jnp.zeros(rewards.true.shape[-1]),
        absolute_error=jnp.mean(model.absolute_error, axis=0),
        squared_error=jnp.mean(model.squared_error, axis=0),
        squared_noise=jnp.sqrt(jnp.sum(model.squared_variance, axis=0)) / states,
        alive_error=jnp.mean(jnp.abs(alive), axis=(0, 1)),
        ended_error=jnp.mean(jnp.abs(over), axis=(0, 1)),
        reward_error=jnp.mean(jnp.abs(rewards.true - rewards.predicted), axis=(0, 1)),
        reward_size=jnp.mean(jnp.abs(rewards.true), axis=(0, 1)),
        ended=jnp.mean(rewards.ended.astype(jnp.float32), axis=(0, 1)),
        average_reward_error=jnp.mean(know_nothing.error, axis=0),
        spread=jnp.mean(spread, axis=0),
    )
