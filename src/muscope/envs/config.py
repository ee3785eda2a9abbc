"""Settings of the environments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from muscope.envs.simulator import HostConfig
from muscope.errors import ConfigError


@dataclass(frozen=True)
class AtariConfig:
    """How an Atari game is played and seen; other environments ignore this.

    The defaults are EfficientZero's, which the paper says it follows.
    """

    frame_size: int = 96
    """Height and width to which a screen is resized, by area."""
    colour: Literal["rgb", "grey"] = "rgb"
    """Three channels per frame, or one."""
    frame_skip: int = 4
    """Emulated frames per agent step; the screen is the maximum of the last two."""
    stack: int = 4
    """Frames in an observation."""
    noop_max: int = 30
    """A game starts with 1 to this many emulated frames without action, drawn by ``reset``."""
    time_limit: int = 3_000
    """Agent steps of a scored game; EfficientZero's last evaluation allows 27,000."""
    training_time_limit: int = 3_000
    """Agent steps of a training game."""
    ends_with_a_life: bool = True
    """In training, losing a life is a termination; the game then goes on."""
    clip_rewards: bool = True
    """In training, a reward is its sign."""

    def __post_init__(self) -> None:
        for name in (
            "frame_size",
            "frame_skip",
            "stack",
            "noop_max",
            "time_limit",
            "training_time_limit",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"environment.atari.{name} must be at least 1.")


@dataclass(frozen=True)
class EnvironmentConfig:
    """The MDP."""

    name: Annotated[str, tyro.conf.Suppress] = "cart-pole"
    """A registered environment, or atari:GAME with a game's name in the emulator."""
    discount: float = 0.997
    """gamma, per agent step."""
    atari: AtariConfig = field(default_factory=AtariConfig)
    host: HostConfig = field(default_factory=HostConfig)

    def __post_init__(self) -> None:
        if not 0 < self.discount <= 1:
            raise ConfigError("environment.discount must lie in (0, 1].")
