"""The report stage: draw every table, and gather the pictures in one HTML file.

It needs a folder's tables and nothing else: no agents, no environment.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import pyarrow as pa
from matplotlib.figure import Figure

from muscope import claims, statistics
from muscope.config import differences
from muscope.errors import RunError
from muscope.experiments import evaluate as cells
from muscope.experiments import registry, style
from muscope.experiments.base import Experiment
from muscope.experiments.style import thousands
from muscope.statistics import Summary
from muscope.storage import gif, metrics, tables
from muscope.storage.checkpoint import write_atomically
from muscope.storage.folder import Folder
from muscope.version import __version__

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("muscope.reporting"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)

_CLAIMS = ("claim", "text", "estimate", "low", "high", "verdict", "note")


class Picture(NamedTuple):
    """One figure of the page."""

    title: str
    caption: str
    uri: str
    table: str
    wide: bool
    """Wider than one column of print: a phone scrolls it."""
    warnings: list[str]
    """What a reader must know before believing it."""
    settings: str
    """What it was made with, where that is not what the others were made with."""


def experiments_of(folder: Folder) -> tuple[list[Experiment], list[str]]:
    """The experiments whose tables a folder holds, in the order in which they are shown, and the
    tables that nobody here can draw.
    """
    known = registry.everything()
    there = [name for name in folder.tables() if name != claims.SCHEMA.name]
    made, strange = [], []
    for experiment in known.values():
        missing = [name for name in experiment.files if name not in there]
        if not missing:
            made.append(experiment)
        elif len(missing) < len(experiment.files):
            strange.append(f"{experiment.name} lacks its table {missing[0]}")
    files = {name for experiment in known.values() for name in experiment.files}
    for name in there:
        if name not in files:
            # Never imported from here: a table may come from a stranger.
            source = tables.told(folder.table_path(name)).get("experiment", "unknown")
            strange.append(f"{name} is of {source}; name that with --figures to draw it")
    return made, strange


def judge(folder: Folder) -> pa.Table:
    """Judge all claims that a folder's environment has, and write ``tables/claims.parquet``.

    Raises:
        RunError: there are no tables, or one is damaged.

    """
    known = registry.everything().values()
    return claims.judge_tables(folder, [claim for e in known for claim in e.claims])


def report(folder: Folder) -> None:
    """Write ``figures/``, the claims and ``report.html`` from ``tables/``.

    Raises:
        RunError: no table exists yet, or one or the film is damaged.

    """
    made, strange = experiments_of(folder)
    if not made:
        raise RunError(
            f"{folder.path} has no tables; 'muscope evaluate' or 'muscope examine' makes them."
        )
    first = tables.read(folder.table_path(made[0].name))
    origin = tables.origin(folder.table_path(made[0].name))
    settings = tables.settings_of(first)
    own = _own_settings(folder, made)
    pictures = [_draw(folder, experiment, own[experiment.name]) for experiment in made]
    devices = {tables.told(folder.table_path(e.name)).get("devices", "") for e in made}
    logs = [metrics.read(path) for path in folder.metrics_paths()]
    page = _TEMPLATES.get_template("report.html").render(
        environment=settings["environment"],
        preset=settings["preset"],
        agents=origin.agents,
        steps=origin.training_steps,
        pictures=pictures,
        strange=strange,
        film=_film(folder),
        claims=judge(folder).select(_CLAIMS).to_pylist(),
        returns=_returns(folder),
        training=_training(logs, json.loads(settings["config"])),
        damaged_lines=sum(log.damaged for log in logs),
        settings=_settings(folder, made),
        made_by=origin.made_by,
        devices=" and ".join(sorted(devices - {""})),
        version=__version__,
    )
    write_atomically(folder.report_path, page.encode())


def _own_settings(folder: Folder, made: Sequence[Experiment]) -> dict[str, str]:
    """By experiment, those of the shared settings that tables do not agree on, in words.

    Raises:
        RunError: tables are of different agents, which cannot be shown together.

    """
    known = registry.everything()
    configs = {
        e.name: json.loads(tables.settings_of(tables.read(folder.table_path(e.name)))["config"])
        for e in made
    }
    agents: dict[str, dict[str, Any]] = {
        name: {key: value for key, value in config.items() if key not in (*known, "evaluate")}
        for name, config in configs.items()
    }
    for name, settings in agents.items():
        different = [
            words
            for words in differences(agents[made[0].name], settings)
            if not words.startswith(("train.checkpoints ", "train.steps "))  # A run may grow.
        ]
        if different:
            raise RunError(
                f"{folder.table_path(name)} and {folder.table_path(made[0].name)} are of different "
                f"agents: {different[0]}; they cannot stand in one report. Delete one of them."
            )
    asked = {e: cells.asked(folder, e) for e in made}
    used = {e.name: cells.shared(e, of.evaluate) if of else {} for e, of in asked.items()}
    varied = {
        setting
        for setting in {setting for of in used.values() for setting in of}
        if len({str(of[setting]) for of in used.values() if setting in of}) > 1
    }
    return {
        name: ", ".join(f"evaluate.{s} {of[s]}" for s in of if s in varied)
        for name, of in used.items()
    }


def _warnings(about: Mapping[str, str]) -> tuple[list[str], str]:
    """What a table's metadata warn of, in sentences, and in a few words for the picture."""
    diverged = json.loads(about.get("diverged", "{}"))
    clipped = json.loads(about.get("clipped", "[]"))
    sentences = [
        f"Agent {agent} diverged in training: from the checkpoint of step {step:,} on its "
        f"parameters are not finite. It has no numbers there and is not in the means."
        for agent, step in diverged.items()
    ]
    sentences += [f"In training, {words}." for words in clipped]
    short = [f"{len(diverged)} of {about['agents']} agents diverged"] if diverged else []
    short += ["training targets were clipped"] if clipped else []
    return sentences, "; ".join(short)


def _draw(folder: Folder, experiment: Experiment, settings: str) -> Picture:
    """Write an experiment's pictures."""
    given = {name: tables.read(folder.table_path(name)) for name in experiment.files}
    warnings, mark = _warnings(tables.told(folder.table_path(experiment.name)))
    figure = experiment.plot(given)
    if mark:
        style.mark(figure, mark)
    for suffix in ("png", "svg"):
        write_atomically(folder.figure_path(experiment.name, suffix), _image(figure, suffix))
    svg = folder.figure_path(experiment.name, "svg").read_bytes()
    return Picture(
        experiment.title,
        experiment.caption(given),
        "data:image/svg+xml;base64," + base64.b64encode(svg).decode(),
        ", ".join(f"tables/{name}.parquet" for name in experiment.files),
        figure.get_figwidth() > 4,
        warnings,
        settings,
    )


def _film(folder: Folder) -> str:
    """The film as a URI, or nothing.

    Raises:
        RunError: it is damaged.

    """
    if not folder.film_path.exists():
        return ""
    return "data:image/gif;base64," + base64.b64encode(gif.read(folder.film_path)).decode()


def _image(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    with style.context():  # Its hash salt makes the SVG the same at every drawing.
        figure.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()


def _returns(folder: Folder) -> list[dict[str, str]]:
    """Figure 2 in words, one row per checkpoint."""
    path = folder.table_path("figure2")
    if not path.exists():
        return []
    table = tables.read(path)
    steps, mcts = statistics.curve(table, "return", "step", policy="mcts")
    _, prior = statistics.curve(table, "return", "step", policy="prior")
    return [
        {"step": thousands(int(step)), "mcts": _pm(searched), "prior": _pm(alone)}
        for step, searched, alone in zip(steps, mcts, prior, strict=True)
    ]


def _pm(summary: Summary) -> str:
    if summary.n == 1:
        return f"{summary.mean:.1f}"
    return f"{summary.mean:.1f} ± {summary.standard_error:.1f}"


def _training(logs: Sequence[metrics.Log], config: dict[str, Any]) -> dict[str, str]:
    """What training took, from the logs of a run's blocks; nothing for agents that muscope did not
    train.
    """
    last = [log.entries[-1] for log in logs if log.entries]
    if not last:
        return {}
    rounds = max(entry["rounds"] for entry in last)
    return {
        "training steps, per agent": f"{max(entry['step'] for entry in last):,}",
        "environment steps, per agent": f"{rounds * config['train']['lanes']:,}",
        "training time, all agents": f"{sum(entry['seconds'] for entry in last):.0f} s",
    }


def _settings(folder: Folder, made: list[Experiment]) -> list[tuple[str, Any]]:
    """All settings by dotted name, those of every experiment from its own table."""
    flat: dict[str, Any] = {}

    def add(path: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                add(f"{path}.{name}" if path else name, inner)
        else:
            flat.setdefault(path, value)

    for experiment in made:
        config = tables.settings_of(tables.read(folder.table_path(experiment.name)))["config"]
        add("", json.loads(config))
    return list(flat.items())
