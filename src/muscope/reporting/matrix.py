"""Panels of shaded cells with their numbers."""

from __future__ import annotations

from muscope import statistics
from muscope.experiments.view import Matrix, View
from muscope.reporting.panel import (
    BOUNDS,
    OF_MEANS,
    OVER_AGENTS,
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
    specification,
    table_of,
    telling,
)


def matrix_panel(panel: Matrix, view: View, given: Tables) -> Panel:
    """Shaded cells with their numbers."""
    name, table = table_of(panel, given)
    keys = [panel.x, panel.y]
    transform = [
        *followed(view, along(panel, view)),
        *measured("measure"),
        mean_within(["agent", *keys], "value"),
        {"aggregate": OVER_AGENTS, "groupby": keys},
        *BOUNDS,
        {"joinaggregate": [{"op": "max", "field": "mean", "as": "greatest"}], "groupby": [panel.y]},
        {"calculate": "datum.greatest > 0 ? datum.mean / datum.greatest : 0", "as": "shade"},
        telling(
            {
                panel.y_label: exact(panel.y, table),
                panel.x_label: exact(panel.x, table),
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
    own = f"{field(panel.x)} === {field(panel.y)}"
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
                "transform": [{"filter": f"{field(column)} === pick_{column}"}],
                "mark": {"type": "rect", "filled": False, "stroke": "$grey", "strokeWidth": 2.5,
                         "strokeDash": [4, 2]},
                "encoding": {},
            }
            for column in rows
        ),
    ]  # fmt: skip
    body = {"transform": transform, "encoding": {"x": x, "y": y}, "layer": layers}
    columns = ["agent", *keys, *panel.measures, *(c.column for c in view.choices)]
    return Panel(specification(panel, view, given, body), name, present(columns, table))
