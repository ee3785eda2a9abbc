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
        view: the first of its panels tells the measures.
        given: its experiment's tables, the main one first.

    """
    table = next(iter(given.values()))
    measures = {k: v for panel in view.panels for k, v in panel.measures.items()}
    found = [_choice(choice, table, view) for choice in view.choices]
    if len(measures) > 1 and all(len(panel.measures) > 1 for panel in view.panels):
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
    """The specifications of a view's panels, for these tables."""
    return [
        _matrix(panel, view, given) if isinstance(panel, Matrix) else _drawn(panel, view, given)
        for panel in view.panels
    ]


def _table(panel: Lines | Matrix, given: Tables) -> tuple[str, pa.Table]:
    name = panel.table or next(iter(given))
    return name, given[name]


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
    {"calculate": "datum.n > 1 ? format(datum.error, '.3~g') : 'unknown'", "as": "error_shown"},
]


def _drawn(panel: Lines, view: View, given: Tables) -> Panel:
    """Bands, lines and points of means; lines of single agents; what stands beside them."""
    name, table = _table(panel, given)
    series = [column for column in (panel.colour, panel.dash) if column]
    x = _x(panel, table)
    colour, dash = _colour(panel, table), _dash(panel, table)
    line: Json = {"x": x, **colour, **dash}
    value = {"field": "value", "type": "quantitative", "title": None}
    mean = {"field": "mean", "type": "quantitative", "title": None}
    many = not panel.fifths and len(statistics.values(table, panel.x)) > MANY
    places = ["fifth"] if panel.fifths else [panel.x]
    within = _within(panel, view, series)
    over: list[Json] = [{"aggregate": OVER_AGENTS, "groupby": [*places, *series]}, *BOUNDS]
    joined: list[Json] = [{"joinaggregate": OVER_AGENTS, "groupby": [*places, *series]}, *BOUNDS]
    if panel.fifths:
        x_mean = {"op": "mean", "field": panel.x, "as": panel.x}
        over[0] = {"aggregate": [*OVER_AGENTS, x_mean], "groupby": [*places, *series]}
    alone = [{"filter": "single"}]
    points = {"type": "point", "filled": True, "size": 46, "opacity": 0 if many else 1}
    said = _tips(panel, table)
    layers: list[Json] = [
        *_upright(panel, view, x),
        {
            "transform": over,
            "mark": {"type": "area", "opacity": 0.2, "line": False, "tooltip": None},
            "encoding": {
                "x": x,
                **colour,
                **({"detail": {"field": panel.dash}} if panel.dash else {}),
                "y": {**mean, "field": "low"},
                "y2": {"field": "high"},
            },
        },
        {
            "transform": alone,
            "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.4, "tooltip": None},
            "encoding": {**line, "y": value, "detail": {"field": "agent"}},
        },
        *_beside(panel, table, view, x),
        {
            "transform": over,
            "mark": {"type": "line", "strokeWidth": 2.5, "tooltip": None},
            "encoding": {**line, "y": mean},
        },
        {
            "transform": over,
            "mark": points,
            "params": [_nearest("of_mean")],
            "encoding": {"x": x, **colour, "y": mean, "tooltip": said},
        },
        {
            "transform": [*joined, *alone],
            "mark": {**points, "size": 24, "opacity": 0 if many else 0.5},
            "params": [_nearest("of_agent")],
            "encoding": {
                "x": x,
                **colour,
                "y": value,
                "tooltip": [
                    {"field": "agent", "title": "agent"},
                    {"field": "value", "title": "its value", "format": ".4~g"},
                    *said,
                ],
            },
        },
    ]
    wanted = [c.column for c in view.choices] + [b.column for b in panel.beside]
    wanted += [column for b in panel.beside for column in b.where]
    columns = ["agent", panel.x, *series, *panel.measures, *panel.where, *wanted]
    spec = _spec(panel, view, given, {"transform": within, "layer": layers})
    return Panel(spec, name, _present(columns, table))


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


def _nearest(name: str) -> Json:
    """The point that is nearest to the pointer or finger is the one that is told."""
    select = {"type": "point", "nearest": True, "on": "pointermove", "clear": "pointerout"}
    return {"name": name, "select": select}


def _tips(panel: Lines, table: pa.Table) -> list[Json]:
    x: Json = {"field": panel.x, "title": panel.x_label}
    if panel.fifths:
        x |= {"title": f"{panel.x_label}, mean", "format": ".4~g"}
    elif pa.types.is_integer(table.schema.field(panel.x).type):
        x |= {"format": ","}
    return [
        x,
        *({"field": c, "title": c} for c in (panel.colour, panel.dash) if c),
        {"field": "mean", "title": "mean over agents", "format": ".4~g"},
        {"field": "error_shown", "title": "± standard error"},
        {"field": "n", "title": "agents"},
    ]


def _x(panel: Lines, table: pa.Table) -> Json:
    """The x axis."""
    if panel.fifths:
        scale = {"zero": False, "nice": True}
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
    scale = {"zero": False, "nice": False, "padding": 8}
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
    said = [
        {"field": panel.y, "title": panel.y_label, "format": ","},
        {"field": panel.x, "title": panel.x_label, "format": ","},
        {"field": "mean", "title": "mean over agents", "format": ".4~g"},
        {"field": "error_shown", "title": "± standard error"},
        {"field": "n", "title": "agents"},
    ]
    small = len(statistics.values(table, panel.x)) > 6
    own = f"{_of(panel.x)} === {_of(panel.y)}"
    rows = [c.column for c in view.choices if c.column == panel.y]
    layers: list[Json] = [
        {"mark": {"type": "rect"}, "encoding": {"color": shade, "tooltip": said}},
        {
            "transform": [{"filter": own}],
            "mark": {"type": "rect", "filled": False, "stroke": "$red", "strokeWidth": 2},
            "encoding": {},
        },
        {
            "mark": {"type": "text", "fontSize": 9 if small else 12, "color": "#000000"},
            "encoding": {"text": {"field": "mean", "format": ".2~g"}, "tooltip": said},
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
    labels = json.dumps(dict(panel.measures))
    title = json.dumps(f"{panel.title}: " if panel.title else "")
    text = {"expr": f"{title} + {labels}[measure]"}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"name": ROWS},
        "params": _parameters(view, given, panel.measures),
        "title": {"text": text, "anchor": "start", "fontWeight": "normal", "fontSize": 12},
        "width": "container",
        "height": 270,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **body,
    }
