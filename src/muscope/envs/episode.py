"""Running episodes: the time limit and automatic resets, outside the dynamics.

One lane of experience is a sequence of *rows*.  A row is a state the agent searched
from, and usually the transition it took from there.  When the time limit cuts an
episode, the final state still gets a row of its own (``last``), with a search but no
transition, so that learning can bootstrap from it; the next row starts a new episode.

A training view (:class:`muscope.envs.base.Trainable`) may end an episode in the middle of a
game.  The row says so, and the next one is the same game's next state; score and time limit
belong to the whole game.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.envs.base import Environment, State, Trainable


class Episode(NamedTuple):
    """One lane's current game."""

    state: State
    elapsed: Int[Array, ""]
    """Steps taken in it."""
    score: Float[Array, ""]
    """Its own undiscounted rewards so far."""
    last: Bool[Array, ""]
    """The time limit is reached: this state gets a search but no transition."""


class Outcome(NamedTuple):
    """What one call of :func:`advance` did, for the row of the state it left."""

    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    """The episode ended; nothing that follows is learned as its consequence."""
    finished: Bool[Array, ""]
    """The game ended here, by termination or truncation."""
    score: Float[Array, ""]
    """The undiscounted return of the finished game (0 unless ``finished``)."""


def start(environment: Environment, key: Key[Array, ""]) -> Episode:
    """A fresh episode; ``key`` is consumed."""
    zero = jnp.zeros(())
    return Episode(environment.reset(key), jnp.zeros((), jnp.int32), zero, jnp.array(False))


def advance(
    environment: Environment, episode: Episode, action: Int[Array, ""], key: Key[Array, ""]
) -> tuple[Episode, Outcome]:
    """Step one lane, or restart it if its state was the last of a cut episode.

    Returns the lane's next episode and the outcome that belongs to the row just left.
    ``key`` is consumed.
    """
    moved = environment.step(episode.state, action)
    reward = jnp.where(episode.last, 0.0, moved.reward)
    terminated = moved.terminated & ~episode.last
    state, over, points = moved.state, moved.terminated, moved.reward
    if isinstance(environment, Trainable):
        state, over, points = environment.resume(state)
    elapsed = episode.elapsed + 1
    score = episode.score + jnp.where(episode.last, 0.0, points)
    going = Episode(state, elapsed, score, (elapsed >= environment.spec.time_limit) & ~over)
    finished = over | episode.last
    fresh = start(environment, key)
    following = jax.tree.map(lambda new, old: jnp.where(finished, new, old), fresh, going)
    return following, Outcome(reward, terminated, finished, jnp.where(finished, score, 0.0))


def observed_in_random_play(
    environment: Environment,
    key: Key[Array, ""],
    lanes: int,
    states: int = 2_048,
    moves: int = 64,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Mean and standard deviation of every component of the observation under uniformly random
    actions, over at least ``states`` states and the first ``moves`` moves of ``lanes`` games;
    ``key`` is consumed.
    """
    start_key, key = jax.random.split(key)
    steps = max(-(-states // lanes), moves)

    def step(carry, step_key):
        episodes, total, squares = carry
        action_key, reset_key = jax.random.split(step_key)
        seen = jax.vmap(environment.observe)(episodes.state)
        actions = jax.random.randint(action_key, (lanes,), 0, environment.spec.num_actions)
        episodes, _ = jax.vmap(lambda e, a, k: advance(environment, e, a, k))(
            episodes, actions, jax.random.split(reset_key, lanes)
        )
        return (episodes, total + jnp.sum(seen, 0), squares + jnp.sum(seen * seen, 0)), None

    begin = jax.vmap(lambda k: start(environment, k))(jax.random.split(start_key, lanes))
    nothing = jnp.zeros(environment.spec.observation_shape)
    carry = (begin, nothing, nothing)
    (_, total, squares), _ = jax.lax.scan(step, carry, jax.random.split(key, steps))
    mean, square = total / (steps * lanes), squares / (steps * lanes)
    return mean, jnp.sqrt(jnp.maximum(square - mean * mean, 0.0))
