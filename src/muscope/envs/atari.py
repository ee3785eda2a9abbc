"""Atari games: the emulator steps on the host, what the agent sees is made on the device.

Source of the set-up: EfficientZero's (Ye et al. 2021), which the paper follows; the settings are
:class:`muscope.envs.config.AtariConfig`.  Deterministic: no sticky actions, and only the
number of frames without action at the start varies games.  Nobody presses FIRE for the
agent: in Breakout there is no ball before it does, after every life.  While the ball moves
FIRE does what NOOP does, to the byte, so that of Figure 4's 256 action sequences at most 81
differ; each still counts as a sequence of its own, with its own probability and prediction.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from muscope.envs.base import Spec
from muscope.envs.config import AtariConfig, EnvironmentConfig
from muscope.envs.emulator import Emulator, EmulatorMaker
from muscope.envs.host import HostEnvironment, HostState, Layout
from muscope.envs.simulator import check_restores

SNAPSHOT_ROOM = 64  # bytes by which a snapshot may outgrow the first one


class Seen(NamedTuple):
    """The last processed frames."""

    frames: UInt8[Array, "size size stack_channels"]
    """Oldest first; a game starts with copies of its first frame."""
    age: Int[Array, ""]
    """Frames among them that precede the newest in this game, 0 to stack - 1."""


class Atari(HostEnvironment):
    """One game; see :class:`muscope.envs.base.Environment`.

    Args:
        game: its name in ALE.
        name: its name in configs.
        config: the environment's settings.

    Raises:
        ConfigError: ale-py is missing, there is no such game, or it cannot be restored.

    """

    def __init__(self, game: str, name: str, config: EnvironmentConfig):
        atari = config.atari
        maker = EmulatorMaker(game, atari.colour == "grey", atari.frame_skip)
        num_actions, snapshot_bytes, screen = _measure(maker)
        self.config: AtariConfig = atari
        self.stack = atari.stack
        self._channels = screen[-1]
        size = atari.frame_size
        self._rows, self._columns = area_weights(screen[0], size), area_weights(screen[1], size)
        super().__init__(
            Spec(name, num_actions, (size, size, self._channels * self.stack), atari.time_limit),
            maker,
            Layout(snapshot_bytes + SNAPSHOT_ROOM, screen, np.uint8, atari.noop_max),
            config.host,
        )

    def seen(self, view: UInt8[Array, "height width channels"], memory: Seen | None) -> Seen:
        """The stack with the resized screen as its newest frame."""
        frame = resize(view, self._rows, self._columns)
        if memory is None:
            return Seen(jnp.tile(frame, (1, 1, self.stack)), jnp.zeros((), jnp.int32))
        frames = jnp.concatenate([memory.frames[..., self._channels :], frame], axis=-1)
        return Seen(frames, jnp.minimum(memory.age + 1, self.stack - 1))

    def observe(self, state: HostState) -> Float[Array, "size size stack_channels"]:
        """The last frames in [0, 1], channels last, oldest first."""
        return _scaled(state.memory.frames)

    def training(self) -> Atari:
        """As agents learn it: ended by a lost life, rewards clipped, if the settings say so."""
        config = self.config
        return self.as_training(
            config.ends_with_a_life, config.clip_rewards, config.training_time_limit
        )

    def frame(self, state: HostState) -> UInt8[Array, "size size channels"]:
        """The newest frame."""
        return state.memory.frames[..., -self._channels :]

    def age(self, state: HostState) -> Int[Array, ""]:
        """How many of the frames before it belong to this game, at most ``stack`` - 1."""
        return state.memory.age

    def observe_frames(
        self, frames: UInt8[Array, "stack size size channels"]
    ) -> Float[Array, "size size stack_channels"]:
        """The observation of a state whose last frames, oldest first, these are."""
        return _scaled(jnp.concatenate(list(frames), axis=-1))


def _scaled(frames: UInt8[Array, "..."]) -> Float[Array, "..."]:
    # A product, because a compiled division may differ in the last bit from an eager one.
    return frames.astype(jnp.float32) * (1.0 / 255.0)


def area_weights(source: int, target: int) -> Float[np.ndarray, "target source"]:
    """Row i averages the ``source`` pixels under target pixel i, by the area that it covers."""
    scale = source / target
    start = np.arange(target)[:, None] * scale
    pixel = np.arange(source)
    overlap = np.minimum(start + scale, pixel + 1) - np.maximum(start, pixel)
    return (np.clip(overlap, 0.0, 1.0) / scale).astype(np.float32)


def resize(
    screen: UInt8[Array, "height width channels"],
    rows: Float[np.ndarray, "size height"],
    columns: Float[np.ndarray, "size width"],
) -> UInt8[Array, "size size channels"]:
    """Area interpolation, rounded as OpenCV's INTER_AREA does.

    Equal to it, save for averages exactly between two integers, which rounding errors decide;
    there are none at size 96.
    """
    exact = jax.lax.Precision.HIGHEST  # Accelerators may otherwise round the products to 10 bits.
    pixels = screen.astype(jnp.float32)
    half = jnp.einsum("ih,hwc->iwc", rows, pixels, precision=exact)
    full = jnp.einsum("jw,iwc->ijc", columns, half, precision=exact)
    return jnp.clip(jnp.round(full), 0, 255).astype(jnp.uint8)


@functools.cache
def _measure(maker: EmulatorMaker) -> tuple[int, int, tuple[Any, ...]]:
    """Number of actions, snapshot bytes and screen shape, from an emulator that restores."""
    emulator: Emulator = maker()
    check_restores(emulator, maker.game, emulator.num_actions)
    first = emulator.reset(0)
    return emulator.num_actions, len(first.snapshot), first.view.shape
