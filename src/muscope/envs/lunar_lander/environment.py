"""Deterministic LunarLander-v3 under the environment contract: discrete actions, no engine
dispersion, no wind; only reset draws (terrain and initial push).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.envs.base import Spec, Transition
from muscope.envs.lunar_lander import flight, world
from muscope.envs.lunar_lander.bodies import HEIGHT
from muscope.envs.lunar_lander.world import World

MOST_PUSH = 1000.0  # N
MAIN_COST, SIDE_COST = 0.3, 0.03
FLAT = slice(3, 8)  # the terrain's heights around the helipad


def terrain(heights: Float[Array, "12"]) -> Float[Array, "11"]:
    """Gymnasium's terrain from its 12 random heights: flat at the helipad, then smoothed."""
    flat = heights.at[FLAT].set(HEIGHT / 4)
    return 0.33 * (jnp.roll(flat, 1) + flat + jnp.roll(flat, -1))[:11]


def observation(state: World) -> Float[Array, "8"]:
    """Position, velocity, angle, spin, and whether each leg touches the ground."""
    legs = jnp.stack(state.flags[1:]).astype(jnp.float32)
    return jnp.concatenate([flight.observe(state.bodies), legs])


def shaping(seen: Float[Array, "8"]) -> Float[Array, ""]:
    """Gymnasium's potential: near the pad, slow, upright, legs down."""
    near = jnp.sqrt(seen[0] * seen[0] + seen[1] * seen[1])
    slow = jnp.sqrt(seen[2] * seen[2] + seen[3] * seen[3])
    return -100 * (near + slow + jnp.abs(seen[4])) + 10 * (seen[6] + seen[7])


def is_over(state: World) -> Bool[Array, ""]:
    """Crashed, out of sight, or asleep."""
    return state.flags[0] | (jnp.abs(observation(state)[0]) >= 1.0) | ~state.awake


def begin(heights: Float[Array, "12"], force: Float[Array, "2"]) -> World:
    """The state after reset's hidden step.

    Args:
        heights: 12 draws in [0, HEIGHT / 2], m.
        force: the initial push, N.

    """
    return world.step(world.start(terrain(heights)), 0, force)


class LunarLander:
    """The Lunar Lander MDP; see :class:`muscope.envs.base.Environment`."""

    spec = Spec(name="lunar-lander", num_actions=4, observation_shape=(8,), time_limit=1000)

    def reset(self, key: Key[Array, ""]) -> World:
        heights_key, force_key = jax.random.split(key)
        heights = jax.random.uniform(heights_key, (12,), maxval=HEIGHT / 2)
        force = jax.random.uniform(force_key, (2,), minval=-MOST_PUSH, maxval=MOST_PUSH)
        return begin(heights, force)

    def step(self, state: World, action: Int[Array, ""]) -> Transition:
        moved = world.step(state, action, jnp.zeros(2))
        gain = shaping(observation(moved)) - shaping(observation(state))
        side = (action == 1) | (action == 3)
        cost = jnp.where(action == 2, MAIN_COST, jnp.where(side, SIDE_COST, 0.0))
        ended = jnp.where(~moved.awake, 100.0, -100.0)
        reward = jnp.where(is_over(moved), ended, gain - cost)
        over = is_over(state)
        following = jax.tree.map(lambda new, old: jnp.where(over, old, new), moved, state)
        return Transition(following, jnp.where(over, 0.0, reward), is_over(following))

    def observe(self, state: World) -> Float[Array, "8"]:
        return observation(state)
