"""What a model predicts around the true end of an episode."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.agent import Agent
from muscope.envs import Environment, State
from muscope.evaluation.value_error import Rewards, score, split_at_the_end


class Profile(NamedTuple):
    """Mean rewards by steps since the true end; h sequences' steps give offsets -h..h-1.

    The fields are the columns of their names in the table ``endings``, whose meanings stand in its
    schema (``docs/tables.md``).
    """

    true_reward: Float[Array, "offsets"]
    predicted_reward: Float[Array, "offsets"]
    sequences: Int[Array, "offsets"]
    ended: Float[Array, "1"]
    alive_error: Float[Array, "1"]
    ended_error: Float[Array, "1"]


def profile(rewards: Rewards, ends: Bool[Array, "L"], discount: float) -> Profile:
    """Line rewards [L, h] up at their true ends.

    Args:
        rewards: of L sequences.
        ends: whether the episode is over after the sequence's last step.
        discount: gamma.

    """
    horizon = rewards.true.shape[-1]
    # The first step after the end; equal to h if the very last transition ended the episode.
    end = horizon - jnp.sum(rewards.ended, axis=-1)
    offset = jnp.arange(horizon) - end[:, None] + horizon
    index = jnp.where(ends[:, None], offset, 2 * horizon)  # those that do not end go nowhere

    def total(x: Float[Array, "L h"]) -> Float[Array, "offsets"]:
        return jnp.zeros(2 * horizon).at[index].add(x, mode="drop")

    count = total(jnp.ones_like(rewards.true))
    alive, over = split_at_the_end(rewards, discount)
    return Profile(
        total(rewards.true) / count,
        total(rewards.predicted) / count,
        count.astype(jnp.int32),
        jnp.mean(ends.astype(jnp.float32))[None],
        jnp.mean(jnp.abs(alive[:, -1]))[None],
        jnp.mean(jnp.abs(over[:, -1]))[None],
    )


def random_profile(
    environment: Environment,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    discount: float,
    sequences: int,
    horizon: int,
) -> Profile:
    """The profile of uniformly random action sequences.

    Args:
        environment: the true environment.
        agent: whose model predicts.
        states: [M, ...] to start from.
        key: draws the actions; consumed.
        discount: gamma.
        sequences: R, of each state.
        horizon: h, steps that are scored.

    """
    starts = jax.tree.map(lambda x: jnp.repeat(x, sequences, axis=0), states)
    count = jax.tree.leaves(starts)[0].shape[0]
    # One step more than is scored tells whether the last scored one ended the episode.
    drawn = jax.random.randint(key, (count, horizon + 1), 0, environment.spec.num_actions)
    scored = jax.vmap(lambda s, a: score(environment, agent, s, a))(starts, drawn)
    rewards = Rewards(*(x[:, :-1] for x in scored))
    return profile(rewards, scored.ended[:, -1], discount)
