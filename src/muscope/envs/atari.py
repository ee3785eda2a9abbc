"""Atari games: the emulator steps on the host, what the agent sees is made on the device.

Source of the set-up: EfficientZero's (Ye et al. 2021), which the paper follows; the settings are
:class:`AtariConfig`.  Deterministic: no sticky actions, and only the
number of frames without action at the start varies games.  In Breakout there is no ball before
FIRE is pressed, after every life: the presets press it for the agent, EfficientZero's play without.
While the ball moves FIRE does what NOOP does, to the byte, so that of Figure 4's 256 action
sequences at most 81 differ; each still counts as a sequence of its own, with its own probability
and prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from muscope.config.base import Count, Settings, within
from muscope.config.environment import HostConfig
from muscope.envs.base import Spec
from muscope.envs.emulator import EmulatorMaker
from muscope.envs.host import HostEnvironment, HostState, Layout
from muscope.envs.trial import models

SNAPSHOT_ROOM = 64  # bytes by which a snapshot may outgrow the first one


@dataclass(frozen=True)
class AtariConfig(Settings):
    """How an Atari game is played and seen.

    The defaults are EfficientZero's, which the paper says it follows.
    """

    section = "environment.options"

    frame_size: Annotated[int, *within(1, 1_000)] = 96
    """Height and width to which a screen is resized, by area."""
    colour: Literal["rgb", "grey"] = "rgb"
    """Three channels per frame, or one."""
    frame_skip: Annotated[int, *within(1, 100)] = 4
    """Emulated frames per agent step; the screen is the maximum of the last two."""
    stack: Annotated[int, *within(1, 100)] = 4
    """Frames in an observation."""
    fire: bool = False
    """Press FIRE for one agent step after a game's start and after a lost life, in games that have
    it, as most of the Atari literature does (its wrapper FireReset).  Without it an agent that does
    not press FIRE itself waits for a ball to the time limit.  On in all presets."""
    noop_max: Annotated[int, *within(1, 1_000)] = 30
    """A game starts with 1 to this many emulated frames without action, drawn by ``reset``."""
    time_limit: Count = 3_000
    """Agent steps of a scored game; EfficientZero's last evaluation allows 27,000."""
    training_time_limit: Count = 3_000
    """Agent steps of a training game."""
    ends_with_a_life: bool = True
    """In training, losing a life is a termination; the game then goes on."""
    clip_rewards: bool = True
    """In training, a reward is its sign."""
    host: HostConfig = field(default_factory=HostConfig)


class Seen(NamedTuple):
    """The last processed frames, and the lives that are left."""

    frames: UInt8[Array, "size size stack_channels"]
    """Oldest first; a game starts with copies of its first frame."""
    age: Int[Array, ""]
    """Frames among them that precede the newest in this game, 0 to stack - 1."""
    lives: Int[Array, ""]


class Atari(HostEnvironment):
    """One game; see :class:`muscope.envs.base.Environment`.

    Args:
        game: its name in ALE.
        options: how it is played and seen.
        name: its name in configs; ``atari:GAME`` by default.

    Raises:
        ConfigError: ale-py is missing, there is no such game, or it cannot be restored.

    """

    def __init__(self, game: str, options: AtariConfig | None = None, name: str | None = None):
        self.options = options = options or AtariConfig()
        maker = EmulatorMaker(
            game,
            options.colour == "grey",
            options.frame_skip,
            options.fire,
            options.ends_with_a_life,
        )
        emulator: Any = models(maker)[0]
        self._maker = maker
        first = emulator.reset(0)
        height, width, self._channels = first.view.screen.shape
        self.stack, size = options.stack, options.frame_size
        self._rows, self._columns = area_weights(height, size), area_weights(width, size)
        shape = (size, size, self._channels * self.stack)
        super().__init__(
            Spec(name or f"atari:{game}", emulator.num_actions, shape, options.time_limit),
            maker,
            Layout.like(first, len(first.snapshot) + SNAPSHOT_ROOM, options.noop_max),
            options.host,
        )

    def seen(self, view: Any, memory: Seen | None) -> Seen:
        """The stack with the resized screen as its newest frame.

        Args:
            view: :class:`muscope.envs.emulator.Look`.
            memory: the stack so far; None at a game's start.

        """
        frame = resize(view.screen, self._rows, self._columns)
        if memory is None:
            age = jnp.zeros((), jnp.int32)
            return Seen(jnp.tile(frame, (1, 1, self.stack)), age, view.lives)
        frames = jnp.concatenate([memory.frames[..., self._channels :], frame], axis=-1)
        return Seen(frames, jnp.minimum(memory.age + 1, self.stack - 1), view.lives)

    def observe(self, state: HostState) -> Float[Array, "size size stack_channels"]:
        """The last frames in [0, 1], channels last, oldest first."""
        return _scaled(state.memory.frames)

    @property
    def action_names(self) -> tuple[str, ...]:
        """ALE's names of the buttons."""
        emulator: Any = models(self._maker)[0]
        return emulator.action_names

    def training(self) -> Atari:
        """As agents learn it: ended by a lost life, rewards clipped, if the options say so."""
        return self.as_training(self.options.training_time_limit)

    def ended(self, before: Seen, after: Seen) -> Bool[Array, ""]:
        """Whether a life was lost that counts as the episode's end."""
        return after.lives < before.lives if self.options.ends_with_a_life else jnp.array(False)

    ended_in_play = ended

    def reward(self, points: Float[Array, ""]) -> Float[Array, ""]:
        """The points, or their sign."""
        return jnp.sign(points) if self.options.clip_rewards else points

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


def game(name: str, options: AtariConfig) -> Atari:
    """Any game, by its name in ALE."""
    return Atari(name, options)


def breakout(options: AtariConfig) -> Atari:
    """The paper's game."""
    return Atari("breakout", options, "breakout")


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
