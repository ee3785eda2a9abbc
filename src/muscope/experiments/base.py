"""What an experiment is.  Each owns everything about itself, in one module.

Settings of its own, from checkpoints to rows, the tables' columns, what it takes of time and
memory, its random stream, from rows to a picture and a caption, and the claims that read its
tables.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure

from muscope.claims import Claim
from muscope.config import EvaluateConfig, Settings
from muscope.experiments.lab import Bench
from muscope.experiments.measure import Measure
from muscope.experiments.memory import Sizes
from muscope.experiments.view import View
from muscope.room import Part
from muscope.storage.schema import Schema
from muscope.subjects import Subject
from muscope.work import Work

Tables = Mapping[str, pa.Table]
"""An experiment's tables by name; the first has the experiment's own name."""


@dataclass(frozen=True)
class NoSettings(Settings):
    """An experiment without settings of its own."""


def every(subject: Subject, evaluate: EvaluateConfig, settings: Any) -> tuple[int, ...]:
    """All checkpoints that are examined: those of ``evaluate.checkpoints``, or the subject's.

    Raises:
        ConfigError: one is not among the subject's.

    """
    return subject.scheduled(evaluate.checkpoints, "evaluate.checkpoints") or subject.steps


def chosen(subject: Subject, evaluate: EvaluateConfig, settings: Any) -> tuple[int, ...]:
    """Those of ``settings.checkpoints`` up to the end of training, or the last if none is.

    Raises:
        ConfigError: one is not among the subject's.

    """
    wanted = [step for step in settings.checkpoints if step <= subject.training_steps]
    name = f"{settings.section}.checkpoints"
    return subject.scheduled(wanted, name) or subject.steps[-1:]


def _accept(subject: Subject, settings: Any) -> None:
    pass


@dataclass(frozen=True)
class Experiment:
    """One figure of the paper, or somebody's own question."""

    name: str
    """Of its pictures, its main table, and its settings on the command line."""
    title: str
    tables: tuple[Schema, ...]
    """What ``run`` fills; the first has the experiment's name."""
    run: Callable[[Bench, Any, int], Tables]
    """Bench, settings, training step: the rows of one checkpoint, per table equally many
    for each agent, in the bench's order."""
    plot: Callable[[Tables], Figure]
    """A pure function of the tables."""
    caption: Callable[[Tables], str]
    """What the picture shows, with the numbers it was made with."""
    view: Callable[[Tables], View] | None = None
    """How it is explored in the report; without it the report has its picture alone."""
    settings: type[Settings] = NoSettings
    """Its own settings; all of its rows depend on them."""
    claims: tuple[Claim, ...] = ()
    """Claims that read its tables."""
    measures: tuple[Measure, ...] = field(default=(), hash=False)
    """What of it is held against other runs (:mod:`muscope.comparison`); by default every real
    number that it measures, averaged over all rows of an agent at a checkpoint."""
    steps: Callable[[Subject, EvaluateConfig, Any], tuple[int, ...]] = every
    """The checkpoints that it examines."""
    work: Callable[[Subject, EvaluateConfig, Any], list[Work]] | None = None
    """What is computed for one agent and checkpoint, all games played to the time limit, without
    the on-policy episodes, which are shared; None if nobody has counted."""
    memory: Callable[[Sizes, EvaluateConfig, Any], list[Part]] | None = None
    """What one agent takes of memory while it is examined, in parts, each with the settings to
    lower; more than there is is refused before any work.  None if nobody has counted."""
    check: Callable[[Subject, Any], None] = _accept
    """Raises ConfigError for settings that this subject cannot be examined with."""
    states: bool = True
    """Whether it asks for on-policy states or episodes (:meth:`Bench.on_policy`)."""
    across: bool = False
    """Whether a cell reads the other checkpoints too."""
    number: int | None = None
    """Of its random stream; derived from the name by default.  Those of the paper's figures are
    pinned, because renaming a stream would change its rows."""
    revision: int = 1
    """Raised with every change of the code that changes its rows, so that kept rows are not
    taken for current ones."""

    @property
    def stream(self) -> int:
        """The random stream of :meth:`Bench.keys`."""
        return zlib.crc32(self.name.encode()) if self.number is None else self.number

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its tables."""
        return tuple(schema.name for schema in self.tables)
