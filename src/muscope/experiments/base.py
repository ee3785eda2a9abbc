"""What an experiment is: settings, a run from checkpoints to rows, and a plot of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
from matplotlib.figure import Figure

from muscope.config import Config
from muscope.experiments.lab import Lab, checkpoints

Tables = Mapping[str, pa.Table]
"""An experiment's tables by file name; the first has the experiment's own name."""


class Cell(NamedTuple):
    """A piece of an experiment that is kept and skipped as a whole."""

    step: int
    """The checkpoint's training step."""
    agent: int
    """The agent, 0..P-1."""

    @property
    def name(self) -> str:
        return f"step-{self.step:08d}-agent-{self.agent:03d}"


def _accept(config: Config) -> None:
    pass


class Experiment(NamedTuple):
    """One figure of the paper, or one of our own."""

    name: str
    """Its pictures' and main table's file name."""
    title: str
    settings: Callable[[Config], dict[str, Any]]
    """The settings that change its rows, besides the run's own; a change recomputes them."""
    run: Callable[[Lab, int], Tables]
    """The rows of one checkpoint for the lab's block of agents: per table equally many rows
    per agent, in the block's order."""
    plot: Callable[[Tables], Figure]
    """A pure function of the tables."""
    caption: Callable[[Tables], str]
    """What the picture shows, with the numbers it was made with."""
    tables: tuple[str, ...] = ()
    """Further tables that ``run`` fills beside the main one."""
    check: Callable[[Config], None] = _accept
    """Raises ConfigError for settings that cannot be run; called before any long work."""
    steps: Callable[[Config], tuple[int, ...]] = checkpoints
    """The checkpoints it examines."""
    revision: int = 1
    """Raised with every change of the code that changes its rows, so that kept rows are not
    taken for current ones."""
    across: bool = False
    """Whether a cell reads the other checkpoints too."""

    @property
    def files(self) -> tuple[str, ...]:
        """All its tables."""
        return (self.name, *self.tables)
