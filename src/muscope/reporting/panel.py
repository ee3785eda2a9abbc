"""What panels of all kinds are made of: filters, means, what the pointer is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from muscope import statistics
from muscope.experiments.view import Choice, Lines, Matrix, View

Tables = Mapping[str, pa.Table]
Json = dict[str, Any]

ROWS = "rows"
"""The name of a specification's data."""


THOUSANDS = "format(datum.value, '~s')"
"""500, 1k, 2.5k: as an axis labels training steps."""


class Control(NamedTuple):
    """A parameter that the reader sets."""

    parameter: str
    label: str
    how: str
    """some, one, slider, or measure: of the y axis."""
    values: list[Any]
    shown: list[str]
    """The values as the reader sees them."""
    first: list[Any]
    """Chosen at first."""


class Panel(NamedTuple):
    """A specification, and the rows that it wants."""

    spec: Json
    table: str
    columns: list[str]


def control_of(choice: Choice, table: pa.Table, view: View) -> Control:
    """What the reader can choose of a choice's column."""
    main = view.panels[0]
    drawn = statistics.rows(table, **main.where) if isinstance(main, Lines) else table
    values = statistics.values(drawn, choice.column)
    shown = [f"{value:,}" if isinstance(value, int) else str(value) for value in values]
    first = [value for value in values if value in choice.first]
    first = first or values if choice.how == "some" else first[:1] or values[-1:]
    return Control(f"pick_{choice.column}", choice.label, choice.how, values, shown, first)


def table_of(panel: Lines | Matrix, given: Tables) -> tuple[str, pa.Table]:
    """The name and the rows of the table that a panel reads."""
    name = panel.table or next(iter(given))
    return name, given[name]


def measures_of(panel: Lines | Matrix, given: Tables) -> dict[str, str]:
    """Those that the table has: one of an older version may lack some."""
    _, table = table_of(panel, given)
    return {name: label for name, label in panel.measures.items() if name in table.column_names}


def _parameters(view: View, given: Tables, measures: Mapping[str, str]) -> list[Json]:
    agents = statistics.values(next(iter(given.values())), "agent")
    table = next(iter(given.values()))
    picked = [control_of(choice, table, view) for choice in view.choices]
    return [
        {"name": "agents", "value": agents},
        {"name": "single", "value": False},
        {"name": "measure", "value": next(iter(measures))},
        *(
            {"name": control.parameter, "value": _plain(control)}
            for control in picked
            if control.first
        ),
    ]


def _plain(control: Control) -> Any:
    return control.first if control.how == "some" else control.first[0]


def field(column: str) -> str:
    """A column of a row, as an expression."""
    return f"datum[{json.dumps(column)}]"


def among(values: str, column: str) -> Json:
    """A filter: a column's value is among those of a list."""
    return {"filter": f"indexof({values}, {field(column)}) >= 0"}


def where_all(where: Mapping[str, Sequence[Any]]) -> list[Json]:
    """Filters: every column has one of its values."""
    return [among(json.dumps(list(values)), column) for column, values in where.items()]


def followed(view: View, ignored: Sequence[str]) -> list[Json]:
    """Filters for the reader's choices."""
    filters = [among("agents", "agent")]
    for choice in view.choices:
        if choice.column in ignored:
            continue
        pick = f"pick_{choice.column}"
        if choice.how == "some":
            filters.append(among(pick, choice.column))
        else:
            filters.append({"filter": f"{field(choice.column)} === {pick}"})
    return filters


def along(panel: Lines | Matrix, view: View) -> list[str]:
    """Choices of one place on a panel's own axes, which it does not follow."""
    axes = (panel.x, panel.y) if isinstance(panel, Matrix) else (panel.x,)
    return [c.column for c in view.choices if c.column in axes and c.how != "some"]


def measured(column: str) -> list[Json]:
    """The numbers that are shown; NaN and null are left out of every mean."""
    value = "datum[measure]" if column == "measure" else field(column)
    return [{"calculate": value, "as": "value"}, {"filter": "isValid(datum.value)"}]


def mean_within(groups: Sequence[str], *fields: str) -> Json:
    """Means of fields in groups of rows."""
    means = [{"op": "mean", "field": name, "as": name} for name in fields]
    return {"aggregate": means, "groupby": list(dict.fromkeys(groups))}


OVER_AGENTS = [
    {"op": "mean", "field": "value", "as": "mean"},
    {"op": "stderr", "field": "value", "as": "error"},
    {"op": "count", "as": "n"},
]


BOUNDS = [
    {"calculate": "datum.n > 1 ? datum.mean - datum.error : datum.mean", "as": "low"},
    {"calculate": "datum.n > 1 ? datum.mean + datum.error : datum.mean", "as": "high"},
]


def present(columns: Sequence[str], table: pa.Table) -> list[str]:
    """Each once, without those that an older version did not make."""
    return [name for name in dict.fromkeys(columns) if name in table.column_names]


def short(column: str) -> str:
    """A number with four digits, as an expression."""
    return f"format({field(column)}, '.4~g')"


def exact(column: str, table: pa.Table) -> str:
    """A value in full, as an expression."""
    whole = pa.types.is_integer(table.schema.field(column).type)
    return f"format({field(column)}, ',')" if whole else field(column)


OF_MEANS = {
    "mean over agents": short("mean"),
    "± standard error": "datum.n > 1 ? format(datum.error, '.3~g') : 'unknown'",
    "agents": "datum.n",
}


def telling(lines: Mapping[str, str], name: str = "told") -> Json:
    """A transform that makes one object of expressions by what they are called."""
    told = ", ".join(f"{json.dumps(title)}: {value}" for title, value in lines.items())
    return {"calculate": f"{{{told}}}", "as": name}


TOLD = {"tooltip": {"field": "told", "type": "nominal"}}
"""Vega-Lite 6.4 looks for it in the cell around the nearest point, which has the point as its
datum, instead of in the point's row; the page mends that."""


def specification(panel: Lines | Matrix, view: View, given: Tables, body: Json) -> Json:
    """What all panels have in common, around the body of one."""
    measures = measures_of(panel, given)
    labels = json.dumps(measures)
    title = json.dumps(f"{panel.title}: " if panel.title else "")
    text = {"expr": f"{title} + {labels}[measure]"}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"name": ROWS},
        "params": _parameters(view, given, measures),
        "title": {"text": text, "anchor": "start", "fontWeight": "normal", "fontSize": 12},
        "width": "container",
        "height": 270,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **body,
    }
