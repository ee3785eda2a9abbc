"""How charts look: colours by name, in a light and a dark form, and Vega-Lite's configuration.

Okabe and Ito's colours (2008), which colour-blind readers tell apart, darker on light paper and
lighter on dark, so that each has a contrast of 3 to what is behind it.
"""

from __future__ import annotations

import json
from typing import Any

LIGHT: dict[str, Any] = {
    **{"blue": "#0072B2", "orange": "#B06A00", "red": "#C24E00", "green": "#007A5A"},
    **{"purple": "#9B4F96", "grey": "#666666"},
    **{"ink": "#1c1c1c", "quiet": "#555555", "line": "#dcdcdc", "paper": "#ffffff"},
    "ramp": {"scheme": "viridis", "extent": [0.7, 0.0]},
}
DARK: dict[str, Any] = {
    **{"blue": "#56B4E9", "orange": "#E69F00", "red": "#F58A52", "green": "#3CC79A"},
    **{"purple": "#DB9AD3", "grey": "#a5a9b0"},
    **{"ink": "#e8e8e8", "quiet": "#b0b4ba", "line": "#3a3f47", "paper": "#15181d"},
    "ramp": {"scheme": "viridis", "extent": [0.45, 1.0]},
}


def config(theme: dict[str, Any]) -> dict[str, Any]:
    """Vega-Lite's configuration in a theme."""
    text = {"labelColor": theme["quiet"], "titleColor": theme["ink"]}
    sizes = {"titleFontWeight": "normal", "titleFontSize": 12}
    lines = {"gridColor": theme["line"], "domainColor": theme["quiet"]}
    legend = {"orient": "bottom", "direction": "horizontal", "columns": 4, "symbolOpacity": 1}
    return {
        "background": "transparent",
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "title": {"color": theme["ink"]},
        "axis": {
            **{**text, **sizes, **lines},
            **{"tickColor": theme["quiet"], "labelFontSize": 11},
        },
        "legend": {**text, **sizes, **legend, "labelLimit": 260, "labelFontSize": 12},
        "range": {"ordinal": theme["ramp"]},
    }


def coloured(spec: dict[str, Any], theme: dict[str, Any]) -> dict[str, Any]:
    """A specification with a theme's colours in the place of their names, ``$blue``."""
    text = json.dumps(spec)
    for name, colour in theme.items():
        text = text.replace(f'"${name}"', json.dumps(colour))
    return json.loads(text)


def themes() -> dict[str, Any]:
    """What a page needs to colour charts itself."""
    return {
        name: {"colours": theme, "config": config(theme)}
        for name, theme in (("light", LIGHT), ("dark", DARK))
    }
