"""One figure of a report: its pictures on disk, and a card of the page."""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
from matplotlib.figure import Figure
from PIL import Image

from muscope.experiments import registry, style
from muscope.experiments.base import Experiment
from muscope.experiments.view import View
from muscope.reporting import charts
from muscope.reporting.panel import Control, Panel
from muscope.storage import json_file, tables
from muscope.storage.checkpoint import write_atomically
from muscope.storage.folder import EXAMINATION, Folder

SUFFIXES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
"""Of pictures, with their types."""
THUMBNAIL = 280
"""Pixels across."""
_UNDATED = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Metadata without which a picture is the same at every drawing."""


class Card(NamedTuple):
    """One figure of the page."""

    name: str
    title: str
    caption: str
    pictures: dict[str, str]
    """By suffix, as URIs."""
    thumbnail: str
    tables: tuple[str, ...]
    wide: bool
    """Wider than one column of print: a phone scrolls it."""
    mark: str
    """What a reader must know before believing it, in a few words; the page says it in full."""
    settings: str
    """What it was made with, where that is not what the others were made with."""
    command: str
    """Makes its tables and the report."""
    controls: list[Control]
    panels: list[Panel]


def warnings(told: Sequence[Mapping[str, str]]) -> list[str]:
    """What the metadata of tables warn of, in sentences, each once."""
    diverged: dict[str, int] = {}
    clipped: dict[str, None] = {}
    for about in told:
        for agent, step in _diverged(about).items():
            diverged[agent] = min(step, diverged.get(agent, step))  # Not all look at all steps.
        clipped |= dict.fromkeys(_clipped(about))
    return [
        *(
            f"Agent {agent} diverged in training: from the checkpoint of step {step:,} on its "
            f"parameters are not finite. It has no numbers there and is not in the means."
            for agent, step in diverged.items()
        ),
        *(f"In training, {words}." for words in clipped),
    ]


def _diverged(about: Mapping[str, str]) -> dict[str, int]:
    return json.loads(about.get("diverged", "{}"))


def _clipped(about: Mapping[str, str]) -> list[str]:
    return json.loads(about.get("clipped", "[]"))


def _marked(about: Mapping[str, str], clipped: str) -> str:
    """The same of one table in a few words, with those for clipped targets."""
    count = len(_diverged(about))
    some = f"{count} of {about['agents']} agents diverged" if count else ""
    return "; ".join(filter(None, (some, clipped if _clipped(about) else "")))


def draw(folder: Folder, experiment: Experiment, settings: str) -> Card:
    """Write an experiment's pictures, and make its card.

    Raises:
        FigureError: it is a user's and fails.

    """
    given = {name: tables.read(folder.table_path(name)) for name in experiment.files}
    about = tables.told(folder.table_path(experiment.name))
    with registry.blamed(experiment, "plot"):
        figure = experiment.plot(given)
        if not isinstance(figure, Figure):
            raise TypeError(f"it returns a {type(figure).__name__}, not a matplotlib Figure")
        if mark := _marked(about, "training targets were clipped"):
            style.mark(figure, mark)
        images = {suffix: _image(figure, suffix) for suffix in SUFFIXES}
    with registry.blamed(experiment, "caption"):
        caption = experiment.caption(given)
        if not isinstance(caption, str):
            raise TypeError(f"it returns a {type(caption).__name__}, not a text")
    controls, panels = _explored(experiment, given)
    for suffix, image in images.items():
        write_atomically(folder.figure_path(experiment.name, suffix), image)
    return Card(
        experiment.name,
        experiment.title,
        caption,
        {suffix: _uri(kind, images[suffix]) for suffix, kind in SUFFIXES.items()},
        _uri("image/png", _thumbnail(images["png"])),
        experiment.files,
        figure.get_figwidth() > 4,
        _marked(about, "clipped targets"),
        settings,
        _command(folder, experiment),
        controls,
        panels,
    )


def _explored(
    experiment: Experiment, given: Mapping[str, pa.Table]
) -> tuple[list[Control], list[Panel]]:
    """What can be chosen and what is drawn of a figure; nothing of one without a view."""
    if experiment.view is None:
        return [], []
    with registry.blamed(experiment, "view"):
        view = experiment.view(given)
        if not isinstance(view, View):
            raise TypeError(f"it returns a {type(view).__name__}, not a View")
        panels = charts.panels(view, given)
        return charts.controls(view, given), panels


def _command(folder: Folder, experiment: Experiment) -> str:
    path = shlex.quote(str(folder.path))
    if (folder.path / EXAMINATION).is_file():
        pooled = json_file.read(folder.path / EXAMINATION).get("pooled")
        if pooled:
            return f"muscope pool {' '.join(map(shlex.quote, pooled))} --out {path}"
        return f"muscope examine AGENT --out {path} --figures {_name(experiment)}"
    own = f" --figures {_name(experiment)}" if registry.is_users(experiment) else ""
    return f"muscope evaluate {path} --figures {_name(experiment)} && muscope report {path}{own}"


def _name(experiment: Experiment) -> str:
    if not registry.is_users(experiment):
        return experiment.name
    return shlex.quote(registry.source(experiment))


def _image(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    with style.context():  # Its hash salt makes the SVG the same at every drawing.
        figure.savefig(buffer, format=suffix, metadata=_UNDATED[suffix])
    return buffer.getvalue()


def _thumbnail(png: bytes) -> bytes:
    with Image.open(io.BytesIO(png)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.quantize(64).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
