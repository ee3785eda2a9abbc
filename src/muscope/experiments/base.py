"""What an experiment is: settings, a run from checkpoints to rows, and a plot of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa
from matplotlib.figure import Figure

from muscope.agent.networks import MuZero
from muscope.config import Config


class Cell(NamedTuple):
    """A piece of an experiment that is computed, kept and skipped as a whole."""

    step: int
    """The checkpoint's training step."""

    @property
    def name(self) -> str:
        return f"step-{self.step:08d}"


class Experiment(NamedTuple):
    """One figure of the paper."""

    name: str
    """Its table's and picture's file name."""
    title: str
    settings: Callable[[Config], dict[str, Any]]
    """The settings that change its rows, besides the run's own; a change recomputes them."""
    make_runner: Callable[[Config], Callable[[MuZero, Cell], pa.Table]]
    """Binds a config; the result maps a checkpoint's agents [P] and a cell to rows."""
    plot: Callable[[pa.Table], Figure]
    """A pure function of the table."""
    caption: Callable[[pa.Table], str]
