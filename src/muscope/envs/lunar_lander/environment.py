"""Deterministic LunarLander-v3 under the environment contract: discrete actions, no engine
dispersion, no wind; only reset draws (terrain and initial push).

On flat terrain it is the lander on which muzero-general's published agents were trained
(``games/lunarlander.py``, ``DeterministicLunarLander``): the ground at a third of the screen's
height and the pad at a quarter, smoothed as Gymnasium does, and the same push.  Two things of
theirs are not part of it: rewards, which their game divides by 3, and a limit of 700 moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from muscope.config.base import Settings, Whole
from muscope.envs.base import Spec, Transition
from muscope.envs.lunar_lander import lanes, world
from muscope.envs.lunar_lander.bodies import HEIGHT
from muscope.envs.lunar_lander.snapshot import OVER, Snapshot, snapshot

MOST_PUSH = 1000.0  # N
PAD = (np.arange(12) >= 3) & (np.arange(12) < 8)  # heights around the helipad
TIME_LIMIT = 1_000  # steps, Gymnasium's


@dataclass(frozen=True)
class LunarLanderOptions(Settings):
    """The lander's own settings."""

    section = "environment.options"

    terrain: Literal["random", "flat"] = "random"
    """Drawn by reset, or muzero-general's: flat but for the lower pad."""
    time_limit: Whole = 0
    """Steps after which an episode is cut; 0 for Gymnasium's 1000 (muzero-general: 700)."""


def terrain(draws: Float[Array | np.ndarray, "12"]) -> Float[Array, "11"]:
    """Gymnasium's terrain from its 12 draws in [0, HEIGHT / 2]: flat at the helipad, then
    smoothed; in float64, as there.
    """
    with jax.enable_x64(True):
        flat = jnp.where(PAD, HEIGHT / 4, draws.astype(jnp.float64))
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

    Options = LunarLanderOptions
    action_names = ("none", "left", "main", "right")
    """By the engine that fires."""

    def __init__(self, options: LunarLanderOptions | None = None):
        self.options = options = options or LunarLanderOptions()
        self.spec = Spec("lunar-lander", 4, (8,), options.time_limit or TIME_LIMIT)

    def reset(self, key: Key[Array, ""]) -> Snapshot:
        heights_key, force_key = jax.random.split(key)
        draws = jax.random.uniform(heights_key, (12,), maxval=HEIGHT / 2)
        force = jax.random.uniform(force_key, (2,), minval=-MOST_PUSH, maxval=MOST_PUSH)
        if self.options.terrain == "flat":
            return begin(terrain(np.full(12, HEIGHT / 3)), force)
        return begin(terrain(draws), force)

    def step(self, state: Snapshot, action: Int[Array, ""]) -> Transition:
        after, reward = lanes.step(state, action)
        return Transition(after, reward, after.phase == OVER)

    def observe(self, state: Snapshot) -> Float[Array, "8"]:
        return state.observation
