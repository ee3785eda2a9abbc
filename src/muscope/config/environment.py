"""Settings of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from muscope.config.base import PositiveShare, Settings, plain, within


@dataclass(frozen=True)
class EnvironmentConfig(Settings):
    """The MDP."""

    section = "environment"

    name: Annotated[str, tyro.conf.Suppress] = "cart-pole"
    """A registered environment, one of a family (``atari:pong``, ``gymnasium:Acrobot-v1``), or a
    user's own (``my_world.py:KeyDoor``, ``package.module:Name``)."""
    discount: PositiveShare = 0.997
    """gamma, per agent step."""
    options: Annotated[Mapping[str, Any], tyro.conf.Suppress] = field(
        default_factory=dict, hash=False
    )
    """The environment's own settings, as plain JSON; its settings class reads them when it is
    made (:func:`muscope.envs.registry.options_class`)."""

    def check(self) -> None:
        """Bring the options into the form in which JSON gives them back."""
        object.__setattr__(self, "options", plain(self.options, "environment.options"))


@dataclass(frozen=True)
class HostConfig(Settings):
    """How host environments are run; no result depends on it."""

    section = "environment.options.host"

    workers: Annotated[int, *within(0, 1_000)] = 0
    """Worker processes; 0 for one per CPU core, 1 to step in this process."""
    memory_megabytes: Annotated[int, *within(0, 1_000_000)] = 256
    """Size of the memory of (state, action) results; 0 for none."""
