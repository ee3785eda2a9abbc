"""A film that one can step through: from a film's file to a part of the page."""

from __future__ import annotations

import base64
import io
import itertools
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image, ImageSequence

from muscope.reporting import embed
from muscope.reporting.film import is_wide
from muscope.reporting.panel import ROWS, Control, Json, Panel
from muscope.storage import gif
from muscope.storage.folder import Folder

EPISODE, AHEAD = "film-episode", "film-ahead"
"""Tables of a film: a row per move; a row per move and step ahead of it."""


class Film(NamedTuple):
    """What a page shows of a film."""

    gif: str
    """As a URI."""
    caption: str
    frames: list[str]
    """Pictures of the scene, as URIs; none of a film whose file has no numbers."""
    tables: dict[str, Json]
    """Packed."""
    controls: list[Control]
    panels: list[Panel]


def film_of(folder: Folder) -> Film | None:
    """The film of a folder, if there is one; one that has no numbers can be watched alone.

    Raises:
        RunError: it is damaged.

    """
    if not folder.film_path.exists():
        return None
    data = gif.read(folder.film_path)
    uri = "data:image/gif;base64," + base64.b64encode(data).decode()
    notes = gif.notes_of(data)
    if notes is None:
        words = "One episode of MCTS, with the rewards that came and those that were predicted."
        return Film(uri, words, [], {}, [], [])
    unroll = len(notes["predicted"][0])
    caption = (
        f"One episode of MCTS by agent {notes['agent']} at step {notes['step']:,}, with the "
        "rewards that came and those that the learned model predicted for the actions taken: one "
        f"step ahead, {unroll} steps ahead, and from the move that is shown."
    )
    moves = notes["frames"]
    control = Control("pick_move", "move", "slider", moves, [f"{m:,}" for m in moves], moves[:1])
    tables = tables_of(notes)
    packed = {name: embed.table(table) for name, table in tables.items()}
    return Film(
        uri, caption, _scenes(data, notes["scene"]), packed, [control], _panels(notes, unroll)
    )


def tables_of(notes: dict[str, Any]) -> dict[str, pa.Table]:
    """The numbers of a film as tables."""
    rewards, predicted = notes["reward"], notes["predicted"]
    length, unroll = len(rewards), len(predicted[0])
    late = [None] * (unroll - 1) + [ahead[-1] for ahead in predicted]
    episode = {
        "move": range(length),
        "action": notes["action"],
        "reward": rewards,
        "predicted_next": [ahead[0] for ahead in predicted],
        "predicted_last": late[:length],
    }
    pairs = [(t, k) for t, k in itertools.product(range(length), range(unroll)) if t + k < length]
    ahead = {
        "move": [t for t, _ in pairs],
        "ahead": [k + 1 for _, k in pairs],
        "reward": [rewards[t + k] for t, k in pairs],
        "predicted": [predicted[t][k] for t, k in pairs],
    }
    return {EPISODE: pa.table(episode), AHEAD: pa.table(ahead)}


def _scenes(data: bytes, box: list[int]) -> list[str]:
    """The scenes of a film's pictures, as small PNG, without the chart, which the page has itself.

    Args:
        data: the film's file.
        box: left, bottom, right and top of the scene, in pixels from the left and from below.

    """
    left, bottom, right, top = box
    uris = []
    with Image.open(io.BytesIO(data)) as film:
        for picture in ImageSequence.Iterator(film):
            cut = (max(left, 0), max(film.height - top, 0), right, film.height - bottom)
            scene = picture.convert("RGB").crop(cut)
            buffer = io.BytesIO()
            scene.quantize(48).save(buffer, "PNG", optimize=True)
            uris.append("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())
    return uris


def _panels(notes: dict[str, Any], unroll: int) -> list[Panel]:
    """The whole episode, and the steps after the move that is shown."""
    seen = [u for ahead in notes["predicted"] for u in ahead if u is not None]
    wide = is_wide([*notes["reward"], *seen])
    scale = {"type": "symlog", "constant": 1} if wide else {}
    names = {
        "reward": "true",
        "predicted_next": "predicted 1 step ahead",
        "predicted_last": f"predicted {unroll} steps ahead",
    }
    now = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "color": "$grey"},
        "encoding": {"x": {"datum": {"expr": "pick_move"}, "type": "quantitative"}},
    }
    episode = _lines("move", "move", names, scale, wide)
    episode["layer"].append(now)
    names = {"reward": "true", "predicted": "predicted"}
    ahead = _lines("ahead", "steps ahead of the move", names, scale, wide)
    ahead["transform"].insert(0, {"filter": "datum.move === pick_move"})
    ahead["layer"][0]["mark"]["point"] = {"size": 50}
    ahead["layer"][0]["encoding"]["x"]["axis"]["values"] = list(range(1, unroll + 1))
    drawn = ["move", "action", "reward", "predicted_next", "predicted_last"]
    return [
        Panel(_spec("rewards of the episode", episode), EPISODE, drawn),
        Panel(_spec("rewards from here on", ahead), AHEAD, ["move", "ahead", *names]),
    ]


def _lines(x: str, x_label: str, names: dict[str, str], scale: Json, wide: bool) -> Json:
    """A line per column."""
    count = len(names)
    colour = {"domain": [*names.values()], "range": ["$ink", "$red", "$blue"][:count]}
    dash = {"domain": [*names.values()], "range": [[1, 0], [4, 2], [1, 2]][:count]}
    powers = [-1000, -100, -10, -1, 0, 1, 10, 100, 1000]
    labels = " : ".join(f"datum.key === '{key}' ? '{label}'" for key, label in names.items())
    return {
        "transform": [
            {"fold": [*names]},
            {"calculate": f"{labels} : ''", "as": "which"},
        ],
        "layer": [
            {
                "mark": {"type": "line", "tooltip": True, "strokeWidth": 1.6},
                "encoding": {
                    "x": {
                        "field": x,
                        "type": "quantitative",
                        "axis": {"title": x_label, "grid": False},
                    },
                    "y": {
                        "field": "value",
                        "type": "quantitative",
                        "title": None,
                        "scale": scale,
                        "axis": {"values": powers} if wide else {},
                    },
                    "color": {"field": "which", "type": "nominal", "scale": colour, "title": None},
                    "strokeDash": {
                        "field": "which",
                        "type": "nominal",
                        "scale": dash,
                        "title": None,
                    },
                },
            }
        ],
    }


def _spec(title: str, body: Json) -> Json:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"name": ROWS},
        "params": [{"name": "pick_move", "value": 0}],
        "title": {"text": title, "anchor": "start", "fontWeight": "normal", "fontSize": 12},
        "width": "container",
        "height": 190,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **body,
    }
