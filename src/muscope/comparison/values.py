"""From an experiment's tables to one number per agent at each place of a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from muscope import statistics
from muscope.comparison.runs import Compared
from muscope.experiments.base import Experiment
from muscope.experiments.measure import End, Measure
from muscope.experiments.style import thousands
from muscope.storage.schema import Schema, integer, number, text

VALUES = Schema(
    "values",
    "one row per run and place of a curve",
    (
        text("run", "the run"),
        text("experiment", "whose tables it is from"),
        text("measure", "what is measured, in words"),
        text("column", "the table and column that it is the mean of"),
        text("axis", "the column that the curve is drawn along; empty for a single number"),
        integer("place", "its value: a training step, or another; 0 for a single number"),
        number("mean", "over agents; NaN if none has a value", undefined=True),
        number("standard_error", "over agents; NaN for a single agent", undefined=True),
        integer("agents", "how many have a value", measured=True),
    ),
)


class Curve(NamedTuple):
    """One measure of one run."""

    label: str
    column: str
    unit: str
    ratio: bool
    """Whether runs differ by a factor."""
    axis: str
    """Empty for a single number."""
    places: list[Any]
    """The axis' values, ascending; one 0 for a single number."""
    agents: list[int]
    values: np.ndarray
    """[P, places], NaN where an agent has none."""

    @property
    def through_training(self) -> bool:
        """Whether it goes along training steps."""
        return self.axis == "step" or self.axis.endswith("_step")

    def summaries(self) -> list[statistics.Summary]:
        """Mean and standard error over agents at every place."""
        return [statistics.over_agents(at) for at in self.values.T]


def measures_of(experiment: Experiment) -> tuple[Measure, ...]:
    """What an experiment wants to be compared by, or all that its main table measures."""
    if experiment.measures:
        return experiment.measures
    schema = experiment.tables[0]
    x = "step" if "step" in schema.names else ""
    return tuple(
        Measure(column.name, column.name, x=x)
        for column in schema.columns
        if column.measured and pa.types.is_floating(column.type)
    )


def curves(
    experiment: Experiment, runs: Sequence[Compared]
) -> list[tuple[Curve, dict[str, Curve]]]:
    """All measures of an experiment: the first run's curve, and those of the others by name.

    Runs without its tables, or without rows of a measure, are left out.

    Args:
        experiment: whose tables.
        runs: the first has all of its tables.

    """
    found = []
    for measure in measures_of(experiment):
        where = _where(runs[0], experiment, measure)
        if where is None:
            continue
        every = {
            run.name: curve
            for run in runs
            if run.has(experiment)
            and (curve := _curve(run, experiment, measure, where)) is not None
        }
        first = every.pop(runs[0].name, None)
        if first is not None:
            found.append((first, every))
    return found


def _table_name(experiment: Experiment, measure: Measure) -> str:
    return measure.table or experiment.name


def _where(reference: Compared, experiment: Experiment, measure: Measure) -> dict[str, Any] | None:
    """The measure's conditions, ends of columns replaced by the reference's values."""
    table = reference.table(_table_name(experiment, measure))
    where: dict[str, Any] = {}
    for name, value in measure.where.items():
        if table is None or name not in table.column_names:
            return None  # Of an older version.
        known = statistics.values(table, name)
        where[name] = value if not isinstance(value, End) else known[-(value is End.LAST)]
    return where


def _curve(
    run: Compared, experiment: Experiment, measure: Measure, where: Mapping[str, Any]
) -> Curve | None:
    """A run's curve; None if its table has no such rows."""
    name = _table_name(experiment, measure)
    table = run.table(name)
    schema = next(schema for schema in experiment.tables if schema.name == name)
    if table is None or not {measure.column, measure.x, *where} <= {"", *table.column_names}:
        return None
    agents = statistics.values(table, "agent")
    table = statistics.rows(table, **where)
    if not table.num_rows:
        return None
    places = statistics.values(table, measure.x) if measure.x else [0]
    axes = {measure.x: places} if measure.x else {}
    column = next(c for c in schema.columns if c.name == measure.column)
    return Curve(
        measure.label.format(**{name: _shown(value) for name, value in where.items()}),
        f"{name}.{measure.column}",
        column.unit,
        measure.ratio,
        measure.x,
        places,
        agents,
        statistics.means(table, measure.column, agents, **axes).reshape(len(agents), len(places)),
    )


def _shown(value: Any) -> str:
    return thousands(value) if isinstance(value, int) else str(value)


def table_of(
    found: Mapping[str, Sequence[tuple[Curve, Mapping[str, Curve]]]], reference: str
) -> pa.Table:
    """All curves as one table.

    Args:
        found: what :func:`curves` gave, by experiment.
        reference: the first run's name.

    """
    rows = [
        (run, experiment, c.label, c.column, c.axis, place, *summary)
        for experiment, measures in found.items()
        for first, others in measures
        for run, c in {reference: first, **others}.items()
        for place, summary in zip(c.places, c.summaries(), strict=True)
    ]
    named = [dict(zip(VALUES.names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(named, schema=VALUES.arrow())
