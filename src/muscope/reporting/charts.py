"""From an experiment's view to Vega-Lite: one specification per panel, without its data.

A specification reads a table's rows as they are, and all that is computed of them stands in it:
means within an agent, then over the agents that are chosen.  What the reader chooses are its
parameters: ``agents`` (numbers), ``single`` (whether single agents are drawn), ``measure`` (a
column), and ``pick_COLUMN`` per choice (a value, or a list of them).
"""

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
MANY = 24
"""Places on an x axis beyond which points are not drawn, only found by the pointer."""
DASHES = ([1, 0], [2, 2], [7, 3], [1, 4], [9, 2, 2, 2], [4, 1])
"""Of the values of a dash column, then of what is drawn beside the lines."""


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


def controls(view: View, given: Tables) -> list[Control]:
    """What can be chosen in all panels of a view, but for agents: measures, then its choices.

    Args:
        view: a panel of one measure keeps it, whatever is chosen for the others.
        given: its experiment's tables, the main one first.

    """
    table = next(iter(given.values()))
    each = [_measures(panel, given) for panel in view.panels]
    measures = {name: label for of in each if len(of) > 1 for name, label in of.items()}
    found = [_choice(choice, table, view) for choice in view.choices]
    if len(measures) > 1:
        names = list(measures)
        found.insert(0, Control("measure", "shown", "measure", names, [*measures.values()], []))
    return [control for control in found if len(control.values) > 1]


def _choice(choice: Choice, table: pa.Table, view: View) -> Control:
    main = view.panels[0]
    drawn = statistics.rows(table, **main.where) if isinstance(main, Lines) else table
    values = statistics.values(drawn, choice.column)
    shown = [f"{value:,}" if isinstance(value, int) else str(value) for value in values]
    first = [value for value in values if value in choice.first]
    first = first or values if choice.how == "some" else first[:1] or values[-1:]
    return Control(f"pick_{choice.column}", choice.label, choice.how, values, shown, first)


def panels(view: View, given: Tables) -> list[Panel]:
    """The specifications of a view's panels, for these tables.

    Raises:
        ValueError: a column that the view names is not in its table.

    """
    for panel in view.panels:
        _check(panel, view, given)
    return [
        _matrix(panel, view, given) if isinstance(panel, Matrix) else _drawn(panel, view, given)
        for panel in view.panels
    ]


def _check(panel: Lines | Matrix, view: View, given: Tables) -> None:
    name, table = _table(panel, given)
    named = [panel.x, *(choice.column for choice in view.choices)]
    if isinstance(panel, Matrix):
        named.append(panel.y)
    else:
        named += [panel.colour, panel.dash, *panel.where]
        named += [column for each in panel.beside for column in (each.column, *each.where)]
    named += [] if _measures(panel, given) else [*panel.measures]
    lacking = [column for column in named if column and column not in table.column_names]
    if lacking:
        raise ValueError(f"table {name} has no column '{lacking[0]}'")


def _table(panel: Lines | Matrix, given: Tables) -> tuple[str, pa.Table]:
    name = panel.table or next(iter(given))
    return name, given[name]


def _measures(panel: Lines | Matrix, given: Tables) -> dict[str, str]:
    """Those that the table has: one of an older version may lack some."""
    _, table = _table(panel, given)
    return {name: label for name, label in panel.measures.items() if name in table.column_names}


def _parameters(view: View, given: Tables, measures: Mapping[str, str]) -> list[Json]:
    agents = statistics.values(next(iter(given.values())), "agent")
    table = next(iter(given.values()))
    picked = [_choice(choice, table, view) for choice in view.choices]
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


def _of(column: str) -> str:
    return f"datum[{json.dumps(column)}]"


def _among(values: str, column: str) -> Json:
    return {"filter": f"indexof({values}, {_of(column)}) >= 0"}


def _where(where: Mapping[str, Sequence[Any]]) -> list[Json]:
    return [_among(json.dumps(list(values)), column) for column, values in where.items()]


def _followed(view: View, ignored: Sequence[str]) -> list[Json]:
    """Filters for the reader's choices."""
    filters = [_among("agents", "agent")]
    for choice in view.choices:
        if choice.column in ignored:
            continue
        pick = f"pick_{choice.column}"
        if choice.how == "some":
            filters.append(_among(pick, choice.column))
        else:
            filters.append({"filter": f"{_of(choice.column)} === {pick}"})
    return filters


def _along(panel: Lines | Matrix, view: View) -> list[str]:
    """Choices of one place on a panel's own axes, which it does not follow."""
    axes = (panel.x, panel.y) if isinstance(panel, Matrix) else (panel.x,)
    return [c.column for c in view.choices if c.column in axes and c.how != "some"]


def _measured(column: str) -> list[Json]:
    """The numbers that are shown; NaN and null are left out of every mean."""
    value = "datum[measure]" if column == "measure" else _of(column)
    return [{"calculate": value, "as": "value"}, {"filter": "isValid(datum.value)"}]


def _mean(groups: Sequence[str], *fields: str) -> Json:
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


def _drawn(panel: Lines, view: View, given: Tables) -> Panel:
    """Bands, lines and points of means; lines of single agents; what stands beside them."""
    name, table = _table(panel, given)
    x, colour, dash = _x(panel, table), _colour(panel, table), _dash(panel, table)
    line: Json = {"x": x, **colour, **dash}
    value, mean = (
        {"field": field, "type": "quantitative", "title": None} for field in ("value", "mean")
    )
    bounds = {"y": {**mean, "field": "low"}, "y2": {"field": "high"}}
    detail = {"detail": {"field": panel.dash}} if panel.dash else {}
    series = [column for column in (panel.colour, panel.dash) if column]
    keys = ["fifth" if panel.fifths else panel.x, *series]
    over: list[Json] = [{"aggregate": _over_agents(panel), "groupby": keys}, *BOUNDS]
    alone: list[Json] = [{"filter": "single"}]
    many = not panel.fifths and len(statistics.values(table, panel.x)) > MANY
    layers = [
        *_upright(panel, view, x),
        _layer(over, "area", {"x": x, **colour, **detail, **bounds}, opacity=0.2),
        _layer(
            alone,
            "line",
            {**line, "y": value, "detail": {"field": "agent"}},
            strokeWidth=1,
            opacity=0.3,
        ),
        *_beside(panel, table, view, x),
        _layer(over, "line", {**line, "y": mean}, strokeWidth=2.5),
    ]
    if not many:
        dots = {"filled": True, "size": 46, "opacity": 1}
        layers.append(_layer(over, "point", {"x": x, **colour, "y": mean}, **dots))
        few = {"filled": True, "size": 20, "opacity": 0.5}
        layers.append(_layer(alone, "point", {"x": x, **colour, "y": value}, **few))
    layers.append(_pointed(panel, table, keys, {"x": x, **colour}))
    wanted = [c.column for c in view.choices] + [b.column for b in panel.beside]
    wanted += [column for b in panel.beside for column in b.where]
    columns = ["agent", panel.x, *series, *panel.measures, *panel.where, *wanted]
    body = {"transform": _within(panel, view, series), "layer": layers}
    return Panel(_spec(panel, view, given, body), name, _present(columns, table))


def _layer(transform: list[Json], mark: str, encoding: Json, **looks: Any) -> Json:
    made = {"type": mark, "tooltip": None, **looks}
    return {"transform": transform, "mark": made, "encoding": encoding}


def _over_agents(panel: Lines) -> list[Json]:
    """Aggregates over the agents that are chosen."""
    x = [{"op": "mean", "field": panel.x, "as": panel.x}] if panel.fifths else []
    return [*OVER_AGENTS, *x]


def _pointed(panel: Lines, table: pa.Table, keys: Sequence[str], encoding: Json) -> Json:
    """Points that are not seen, of which the nearest to the pointer or finger is told: means, or
    single agents where these are shown.
    """
    transform = [
        {"calculate": _of(panel.x), "as": "own_x"},
        {"joinaggregate": _over_agents(panel), "groupby": keys},
        {"window": [{"op": "row_number", "as": "nth"}], "groupby": keys},
        {"filter": "single || datum.nth === 1"},
        {"calculate": "single ? datum.value : datum.mean", "as": "at"},
        {"calculate": f"single ? datum.own_x : {_of(panel.x)}", "as": panel.x},
        _telling(_means_told(panel, table), "told_of_mean"),
        _telling(_agent_told(panel, table), "told_of_agent"),
        {"calculate": "single ? datum.told_of_agent : datum.told_of_mean", "as": "told"},
    ]
    select = {"type": "point", "nearest": True, "on": "pointermove", "clear": "pointerout"}
    at = {"field": "at", "type": "quantitative", "title": None}
    return {
        "transform": transform,
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0},
        "params": [{"name": "nearest", "select": select}],
        "encoding": {**encoding, "y": at, **TOLD},
    }


def _within(panel: Lines, view: View, series: Sequence[str]) -> list[Json]:
    """From rows to one number per agent, line and place: ``value``."""
    chosen = [*_where(panel.where), *_followed(view, _along(panel, view)), *_measured("measure")]
    if not panel.fifths:
        return [*chosen, _mean(["agent", panel.x, *series], "value")]
    line = ["agent", *series]
    place = [{"op": "row_number", "as": "place"}]
    count = [{"op": "count", "as": "of"}]
    return [
        *chosen,
        {"window": place, "sort": [{"field": panel.x, "order": "ascending"}], "groupby": line},
        {"joinaggregate": count, "groupby": line},
        {"calculate": "floor((datum.place - 1) * 5 / datum.of)", "as": "fifth"},
        _mean([*line, "fifth"], "value", panel.x),
    ]


def _present(columns: Sequence[str], table: pa.Table) -> list[str]:
    """Each once, without those that an older version did not make."""
    return [name for name in dict.fromkeys(columns) if name in table.column_names]


def _means_told(panel: Lines, table: pa.Table) -> dict[str, str]:
    """What is told of a mean: expressions by what they are called."""
    x = {panel.x_label: _exact(panel.x, table)}
    if panel.fifths:
        x = {f"{panel.x_label}, mean": _short(panel.x)}
    series = {column: _exact(column, table) for column in (panel.colour, panel.dash) if column}
    return {**x, **series, **OF_MEANS}


def _agent_told(panel: Lines, table: pa.Table) -> dict[str, str]:
    return {"agent": "datum.agent", "its value": _short("value"), **_means_told(panel, table)}


def _short(column: str) -> str:
    return f"format({_of(column)}, '.4~g')"


def _exact(column: str, table: pa.Table) -> str:
    whole = pa.types.is_integer(table.schema.field(column).type)
    return f"format({_of(column)}, ',')" if whole else _of(column)


OF_MEANS = {
    "mean over agents": _short("mean"),
    "± standard error": "datum.n > 1 ? format(datum.error, '.3~g') : 'unknown'",
    "agents": "datum.n",
}


def _telling(lines: Mapping[str, str], name: str = "told") -> Json:
    """A transform that makes one object of expressions by what they are called."""
    told = ", ".join(f"{json.dumps(title)}: {value}" for title, value in lines.items())
    return {"calculate": f"{{{told}}}", "as": name}


TOLD = {"tooltip": {"field": "told", "type": "nominal"}}
"""Vega-Lite 6.4 looks for it in the cell around the nearest point, which has the point as its
datum, instead of in the point's row; the page mends that."""


def _x(panel: Lines, table: pa.Table) -> Json:
    """The x axis."""
    if panel.fifths:
        scale: Json = {"zero": False, "nice": True}
        return {
            "field": panel.x,
            "type": "quantitative",
            "scale": scale,
            "axis": {"title": panel.x_label},
        }
    values = [v for v in statistics.values(table, panel.x) if v in panel.where.get(panel.x, (v,))]
    axis: Json = {"title": panel.x_label, "grid": False}
    if panel.scale == "names":
        axis |= {"labelAngle": 0, "labelExpr": THOUSANDS}
        return {"field": panel.x, "type": "ordinal", "axis": axis}
    scale = {"nice": False, "padding": 8}
    if panel.scale != "log2":
        scale["zero"] = False
    if panel.scale == "training":
        scale |= {"type": "symlog", "constant": next((v for v in values if v > 0), 1)}
        axis |= {"values": values, "labelExpr": THOUSANDS}
    elif panel.scale == "log2":
        values = [v for v in values if v > 0]
        scale |= {"type": "log", "base": 2, "domain": [values[0], values[-1]]}
        axis |= {"values": values, "format": "d"}
    axis["labelOverlap"] = True
    return {"field": panel.x, "type": "quantitative", "scale": scale, "axis": axis}


def _colour(panel: Lines, table: pa.Table) -> Json:
    if not panel.colour:
        return {"color": {"value": "$blue"}}
    there = statistics.values(table, panel.colour)
    if not panel.colours:
        return {"color": {"field": panel.colour, "type": "ordinal", "title": panel.colour}}
    known = {value: name for value, name in panel.colours.items() if value in there}
    scale = {"domain": [*known], "range": [f"${name}" for name in known.values()]}
    return {
        "color": {
            "field": panel.colour,
            "type": "nominal",
            "scale": scale,
            "title": panel.colour,
        }
    }


STROKES: Json = {"symbolType": "stroke", "symbolStrokeWidth": 2}
"""Of a legend of dashes."""


def _dashes(panel: Lines, table: pa.Table) -> Json:
    """One scale for the dash column's values and, after them, for what stands beside the lines."""
    values = []
    if panel.dash:
        values = list(panel.where.get(panel.dash, ()) or statistics.values(table, panel.dash))
    labels = [*values, *(each.label for each in panel.beside)]
    first = 0 if values else 2  # Dashed, if full lines are not told apart by their dashes.
    strokes = [DASHES[(first + i) % len(DASHES)] for i in range(len(labels))]
    return {"domain": labels, "range": strokes}


def _dash(panel: Lines, table: pa.Table) -> Json:
    if not panel.dash:
        return {}
    channel = {"field": panel.dash, "type": "nominal", "title": panel.dash, "legend": STROKES}
    return {"strokeDash": {**channel, "scale": _dashes(panel, table)}}


def _beside(panel: Lines, table: pa.Table, view: View, x: Json) -> list[Json]:
    """Thin dashed lines, each the mean over the agents that are chosen."""
    layers: list[Json] = []
    for each in panel.beside:
        keys = [] if each.level else [panel.x]
        ignored = [*_along(panel, view), *each.ignores]
        steps = [*_where(each.where), *_followed(view, ignored), *_measured(each.column)]
        dash = {"field": "beside", "type": "nominal", "title": panel.dash or None}
        encoding: Json = {
            **({} if each.level else {"x": x}),
            "y": {"field": "mean", "type": "quantitative", "title": None},
            "strokeDash": {**dash, "legend": STROKES, "scale": _dashes(panel, table)},
        }
        mark = {"type": "rule" if each.level else "line", "strokeWidth": 1.4, "color": "$grey"}
        layers.append(
            {
                "data": {"name": ROWS},  # The rows themselves, not what the lines make of them.
                "transform": [
                    *steps,
                    _mean(["agent", *keys], "value"),
                    {"aggregate": OVER_AGENTS, "groupby": keys},
                    {"calculate": json.dumps(each.label), "as": "beside"},
                ],
                "mark": {**mark, "tooltip": None},
                "encoding": encoding,
            }
        )
    return layers


def _upright(panel: Lines, view: View, x: Json) -> list[Json]:
    if panel.upright == "":
        return []
    place: Any = panel.upright
    if isinstance(place, str):
        place = {"expr": f"pick_{place}"}
    at = {key: value for key, value in x.items() if key in ("type", "scale", "axis")}
    return [
        {
            "data": {"values": [{}]},
            "mark": {"type": "rule", "color": "$grey", "strokeWidth": 1, "tooltip": None},
            "encoding": {"x": {**at, "datum": place}},
        }
    ]


def _matrix(panel: Matrix, view: View, given: Tables) -> Panel:
    """Shaded cells with their numbers."""
    name, table = _table(panel, given)
    keys = [panel.x, panel.y]
    transform = [
        *_followed(view, _along(panel, view)),
        *_measured("measure"),
        _mean(["agent", *keys], "value"),
        {"aggregate": OVER_AGENTS, "groupby": keys},
        *BOUNDS,
        {"joinaggregate": [{"op": "max", "field": "mean", "as": "greatest"}], "groupby": [panel.y]},
        {"calculate": "datum.greatest > 0 ? datum.mean / datum.greatest : 0", "as": "shade"},
        _telling(
            {
                panel.y_label: _exact(panel.y, table),
                panel.x_label: _exact(panel.x, table),
                **OF_MEANS,
            }
        ),
    ]
    labels = {"labelExpr": THOUSANDS, "grid": False}
    x = {
        "field": panel.x,
        "type": "ordinal",
        "axis": {"title": panel.x_label, "labelAngle": -45, **labels},
    }
    y = {"field": panel.y, "type": "ordinal", "axis": {"title": panel.y_label, **labels}}
    # Blues as far as black letters are legible on them, in both themes.
    shade: Json = {
        "field": "shade",
        "type": "quantitative",
        "scale": {"domain": [0, 1], "range": ["#f7fbff", "#7fb5dc"]},
        "legend": None,
    }
    small = len(statistics.values(table, panel.x)) > 6
    own = f"{_of(panel.x)} === {_of(panel.y)}"
    rows = [c.column for c in view.choices if c.column == panel.y]
    layers: list[Json] = [
        {"mark": {"type": "rect"}, "encoding": {"color": shade, **TOLD}},
        {
            "transform": [{"filter": own}],
            "mark": {"type": "rect", "filled": False, "stroke": "$red", "strokeWidth": 2},
            "encoding": {},
        },
        {
            "mark": {"type": "text", "fontSize": 9 if small else 12, "color": "#000000"},
            "encoding": {"text": {"field": "mean", "format": ".2~g"}, **TOLD},
        },
        *(
            {
                "transform": [{"filter": f"{_of(column)} === pick_{column}"}],
                "mark": {"type": "rect", "filled": False, "stroke": "$grey", "strokeWidth": 2.5,
                         "strokeDash": [4, 2]},
                "encoding": {},
            }
            for column in rows
        ),
    ]  # fmt: skip
    body = {"transform": transform, "encoding": {"x": x, "y": y}, "layer": layers}
    columns = ["agent", *keys, *panel.measures, *(c.column for c in view.choices)]
    return Panel(_spec(panel, view, given, body), name, _present(columns, table))


def _spec(panel: Lines | Matrix, view: View, given: Tables, body: Json) -> Json:
    measures = _measures(panel, given)
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
