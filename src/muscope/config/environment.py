"""Settings of the MDP, whichever environment it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from muscope.config.base import PositiveShare, Settings, Whole


@dataclass(frozen=True)
class HostConfig(Settings):
    """How environments on the host are run; no result depends on it."""

    section = "environment.options.host"

    workers: Whole = 0
    """Worker processes; 0 for one per CPU core, 1 to step in this process."""
    memory_megabytes: Whole = 256
    """Size of the memory of (state, action) results; 0 for none."""


@dataclass(frozen=True)
class EnvironmentConfig(Settings):
    """The MDP."""

    section = "environment"

    name: Annotated[str, tyro.conf.Suppress] = "cart-pole"
    """A registered environment, a family's member (atari:GAME, gymnasium:ID), or your own
    (FILE.py:NAME, package.module:NAME)."""
    discount: PositiveShare = 0.997
    """gamma, per agent step."""
    options: Annotated[Mapping[str, Any], tyro.conf.Suppress] = field(
        default_factory=dict, hash=False
    )
    """The environment's own settings, read by its own class when it is made."""
