"""How a figure is explored in the report: what of its tables is drawn, and what can be chosen.

An experiment that declares a view (:attr:`muscope.experiments.base.Experiment.view`) is interactive
there; one without keeps its picture alone.  A view draws nothing: :mod:`muscope.reporting.charts`
does.  Agents can be chosen in every view, and lines are means over those that are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Colour = Literal["blue", "orange", "red", "green", "purple", "grey"]
"""Of a palette that colour-blind readers can tell apart, in a light and a dark form."""


class Choice(NamedTuple):
    """A column whose values the reader chooses from."""

    column: str
    label: str
    how: Literal["some", "one", "slider"] = "some"
    """Several of the values; one of them; one of them with a slider, for numbers in an order."""
    first: Sequence[Any] = ()
    """What is chosen at first; by default all, of one or a slider the last."""


@dataclass(frozen=True)
class Beside:
    """What is drawn beside the lines, thin and dashed: a baseline, a truth."""

    column: str
    label: str
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """The rows that it is the mean of, as values by column."""
    level: bool = False
    """Whether it is one number for all places on the x axis."""
    ignores: Sequence[str] = ()
    """Choices that it does not follow."""


@dataclass(frozen=True)
class Lines:
    """Means ± standard error over agents, a line per colour and dash, and single agents."""

    x: str
    x_label: str
    measures: Mapping[str, str]
    """Columns that the y axis may show, with its labels; the first is shown at first."""
    colour: str = ""
    """A column that tells lines apart."""
    dash: str = ""
    """Another one."""
    colours: Mapping[Any, Colour] = field(default_factory=dict)
    """By the colour column's values; without it they are shades in their order."""
    scale: Literal["linear", "log2", "training", "names"] = "linear"
    """Of the x axis; training steps are logarithmic beyond the first one after 0."""
    beside: Sequence[Beside] = ()
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """The rows that lines are made of, as values by column."""
    upright: str | float = ""
    """Where on the x axis a vertical line stands: a place, or the column of a choice."""
    fifths: bool = False
    """Whether x is measured too: an agent's rows are sorted by it into fifths, per line, and each
    fifth is one point."""
    title: str = ""
    table: str = ""
    """By default the experiment's own."""


@dataclass(frozen=True)
class Matrix:
    """Means over agents in cells, each row shaded by its own greatest; the diagonal is outlined."""

    x: str
    x_label: str
    y: str
    y_label: str
    measures: Mapping[str, str]
    title: str = ""
    table: str = ""


@dataclass(frozen=True)
class View:
    """Panels that share their choices."""

    panels: Sequence[Lines | Matrix]
    choices: Sequence[Choice] = ()
