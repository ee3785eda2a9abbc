"""Deterministic LunarLander-v3 under the environment contract: discrete actions, no engine
dispersion, no wind; only reset draws (terrain and initial push).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from muscope.envs.base import Spec, Transition
from muscope.envs.lunar_lander import lanes, world
from muscope.envs.lunar_lander.bodies import HEIGHT
from muscope.envs.lunar_lander.snapshot import OVER, Snapshot, snapshot

MOST_PUSH = 1000.0  # N
FLAT = (np.arange(12) >= 3) & (np.arange(12) < 8)  # heights around the helipad


def terrain(draws: Float[Array, "12"]) -> Float[Array, "11"]:
    """Gymnasium's terrain from its 12 draws in [0, HEIGHT / 2]: flat at the helipad, then
    smoothed; in float64, as there.
    """
    with jax.enable_x64(True):
        flat = jnp.where(FLAT, HEIGHT / 4, draws.astype(jnp.float64))
        heights = 0.33 * (jnp.roll(flat, 1) + flat + jnp.roll(flat, -1))[:11]
        return heights.astype(jnp.float32)


def begin(heights: Float[Array, "11"], force: Float[Array, "2"]) -> Snapshot:
    """The state after reset's hidden step.

    Args:
        heights: of the terrain every two metres, m.
        force: the initial push, N.

    """
    return lanes.launch(snapshot(world.start(heights)), force)


class LunarLander:
    """The Lunar Lander MDP; see :class:`muscope.envs.base.Environment`."""

    spec = Spec(name="lunar-lander", num_actions=4, observation_shape=(8,), time_limit=1000)

    def reset(self, key: Key[Array, ""]) -> Snapshot:
        heights_key, force_key = jax.random.split(key)
        draws = jax.random.uniform(heights_key, (12,), maxval=HEIGHT / 2)
        force = jax.random.uniform(force_key, (2,), minval=-MOST_PUSH, maxval=MOST_PUSH)
        return begin(terrain(draws), force)

    def step(self, state: Snapshot, action: Int[Array, ""]) -> Transition:
        after, reward = lanes.step(state, action)
        return Transition(after, reward, after.phase == OVER)

    def observe(self, state: Snapshot) -> Float[Array, "8"]:
        return state.observation
