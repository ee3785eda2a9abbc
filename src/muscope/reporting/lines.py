"""Panels of lines: means over agents with bands, single agents, what stands beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from muscope import statistics
from muscope.experiments.view import Lines, View
from muscope.reporting.panel import (
    BOUNDS,
    OF_MEANS,
    OVER_AGENTS,
    ROWS,
    THOUSANDS,
    TOLD,
    Json,
    Panel,
    Tables,
    along,
    exact,
    field,
    followed,
    mean_within,
    measured,
    present,
    short,
    specification,
    table_of,
    telling,
    where_all,
)

MANY = 24
"""Places on an x axis beyond which points are not drawn, only found by the pointer."""


DASHES = ([1, 0], [2, 2], [7, 3], [1, 4], [9, 2, 2, 2], [4, 1])
"""Of the values of a dash column, then of what is drawn beside the lines."""


STROKES: Json = {"symbolType": "stroke", "symbolStrokeWidth": 2}
"""Of a legend of dashes."""


def lines_panel(panel: Lines, view: View, given: Tables) -> Panel:
    """Bands, lines and points of means; lines of single agents; what stands beside them."""
    name, table = table_of(panel, given)
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
    return Panel(specification(panel, view, given, body), name, present(columns, table))


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
        {"calculate": field(panel.x), "as": "own_x"},
        {"joinaggregate": _over_agents(panel), "groupby": keys},
        {"window": [{"op": "row_number", "as": "nth"}], "groupby": keys},
        {"filter": "single || datum.nth === 1"},
        {"calculate": "single ? datum.value : datum.mean", "as": "at"},
        {"calculate": f"single ? datum.own_x : {field(panel.x)}", "as": panel.x},
        telling(_means_told(panel, table), "told_of_mean"),
        telling(_agent_told(panel, table), "told_of_agent"),
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
    chosen = [*where_all(panel.where), *followed(view, along(panel, view)), *measured("measure")]
    if not panel.fifths:
        return [*chosen, mean_within(["agent", panel.x, *series], "value")]
    line = ["agent", *series]
    place = [{"op": "row_number", "as": "place"}]
    count = [{"op": "count", "as": "of"}]
    return [
        *chosen,
        {"window": place, "sort": [{"field": panel.x, "order": "ascending"}], "groupby": line},
        {"joinaggregate": count, "groupby": line},
        {"calculate": "floor((datum.place - 1) * 5 / datum.of)", "as": "fifth"},
        mean_within([*line, "fifth"], "value", panel.x),
    ]


def _means_told(panel: Lines, table: pa.Table) -> dict[str, str]:
    """What is told of a mean: expressions by what they are called."""
    x = {panel.x_label: exact(panel.x, table)}
    if panel.fifths:
        x = {f"{panel.x_label}, mean": short(panel.x)}
    series = {column: exact(column, table) for column in (panel.colour, panel.dash) if column}
    return {**x, **series, **OF_MEANS}


def _agent_told(panel: Lines, table: pa.Table) -> dict[str, str]:
    return {"agent": "datum.agent", "its value": short("value"), **_means_told(panel, table)}


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
        ignored = [*along(panel, view), *each.ignores]
        steps = [*where_all(each.where), *followed(view, ignored), *measured(each.column)]
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
                    mean_within(["agent", *keys], "value"),
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
