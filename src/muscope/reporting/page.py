"""The report stage: draw every table, and gather the pictures in one HTML file.

It needs a folder's tables and nothing else: no agents, no environment.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from muscope import claims, statistics
from muscope.config import differences
from muscope.errors import FigureError, RunError
from muscope.experiments import plans as asking
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

_CLAIMS = [
    *("claim", "reading", "text", "estimate", "low", "high", "p_adjusted", "verdict", "note")
]


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


def unknown_tables(folder: Folder) -> dict[str, str]:
    """The tables of experiments that are not known here, and where each stands."""
    files = {name for experiment in registry.everything().values() for name in experiment.files}
    return {
        name: tables.told(folder.table_path(name)).get("experiment", "unknown")
        for name in folder.tables()
        if name not in (*files, claims.SCHEMA.name)
    }


def experiments_of(folder: Folder) -> tuple[list[Experiment], list[str]]:
    """The experiments whose tables a folder holds, in the order in which they are shown, and what
    cannot be drawn here, in words.
    """
    known = registry.everything()
    there = folder.tables()
    made, strange = [], []
    for experiment in known.values():
        missing = [name for name in experiment.files if name not in there]
        if not missing:
            made.append(experiment)
        elif len(missing) < len(experiment.files):
            strange.append(f"{experiment.name} lacks its table {missing[0]}")
    for name, source in unknown_tables(folder).items():
        # Never imported from here: a table may come from a stranger.
        strange.append(
            f"table {name} is not known here, and its claims stay as they were judged; to draw "
            f"and judge it, repeat the command with --figures {source}"
        )
    return made, strange


def judge(folder: Folder) -> pa.Table:
    """Judge all claims that a folder's environment has, and write ``tables/claims.parquet``.

    Claims about tables of experiments that are not known here stay as they were judged, and those
    whose statistic a user's error stops are missing; both are told.

    Raises:
        RunError: there are no tables, or one is damaged.

    """
    for name, source in unknown_tables(folder).items():
        print(
            f"muscope: table {name} is not known here, and its claims stay as they were judged; to "
            f"judge them, repeat the command with --figures {source}.",
            file=sys.stderr,
        )
    return _judged(folder)


def _judged(folder: Folder) -> pa.Table:
    """The paper's claims are corrected together, those of every user's figure by themselves:
    somebody's own questions do not change what is said of the paper's.
    """
    known = registry.everything().values()
    papers = [claim for e in known if not registry.is_users(e) for claim in e.claims]
    users = [[_guarded(e, claim) for claim in e.claims] for e in known if registry.is_users(e)]
    return claims.judge_tables(folder, [papers, *users], [*unknown_tables(folder)])


def _guarded(experiment: Experiment, claim: claims.Claim) -> claims.Claim:
    """The claim, missing where an error in a user's statistic stops it."""

    def per_agent(cells: claims.Cells) -> claims.Noted:
        try:
            with registry.blamed(experiment, f"claim {claim.name}"):
                found = claim.per_agent(cells)
                noted = found if isinstance(found, claims.Noted) else claims.Noted(found, "")
                values = np.asarray(noted.values, float)
                if values.shape != (len(cells.agents),):
                    raise ValueError(f"it gives shape {values.shape}, not one number per agent")
                return noted._replace(values=values)
        except FigureError as error:
            print(f"muscope: {error}", file=sys.stderr)
            raise claims.MissingCell(str(error)) from error

    return claim._replace(per_agent=per_agent)


def report(folder: Folder) -> None:
    """Write ``figures/``, the claims and ``report.html`` from ``tables/``.

    Raises:
        RunError: no table exists yet, or one or the film is damaged.
        FigureError: a user's figure could not be drawn; the report is written without it.

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
    pictures, failed = [], []
    for experiment in made:
        try:
            pictures.append(_draw(folder, experiment, own[experiment.name]))
        except FigureError as error:
            failed.append(str(error))
    for words in strange:
        print(f"muscope: not drawn: {words}.", file=sys.stderr)
    devices = {tables.told(folder.table_path(e.name)).get("devices", "") for e in made}
    logs = [metrics.read(path) for path in folder.metrics_paths()]
    page = _TEMPLATES.get_template("report.html").render(
        environment=settings["environment"],
        made_as="preset" if settings["seed"] >= 0 else "agent",
        preset=settings["preset"],
        agents=origin.agents,
        steps=origin.training_steps,
        pictures=pictures,
        strange=[*strange, *failed],
        film=_film(folder),
        claims=_judged(folder).select(_CLAIMS).to_pylist(),
        corrected=claims.CORRECTED,
        unjudged=claims.UNJUDGED,
        returns=_returns(folder),
        training=_training(logs, json.loads(settings["config"])),
        damaged_lines=sum(log.damaged for log in logs),
        settings=_settings(folder, made),
        made_by=origin.made_by,
        devices=" and ".join(sorted(devices - {""})),
        version=__version__,
    )
    write_atomically(folder.report_path, page.encode())
    if failed:
        raise FigureError(f"{'; '.join(failed)}. {folder.report_path} is written without it.")


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
    asked = {e: asking.asked(folder, e) for e in made}
    used = {e.name: asking.shared(e, of.evaluate) if of else {} for e, of in asked.items()}
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
    """Write an experiment's pictures.

    Raises:
        FigureError: it is a user's and fails.

    """
    given = {name: tables.read(folder.table_path(name)) for name in experiment.files}
    warnings, mark = _warnings(tables.told(folder.table_path(experiment.name)))
    with registry.blamed(experiment, "plot"):
        figure = experiment.plot(given)
        if not isinstance(figure, Figure):
            raise TypeError(f"it returns a {type(figure).__name__}, not a matplotlib Figure")
        if mark:
            style.mark(figure, mark)
        images = {suffix: _image(figure, suffix) for suffix in ("png", "svg")}
    with registry.blamed(experiment, "caption"):
        caption = experiment.caption(given)
        if not isinstance(caption, str):
            raise TypeError(f"it returns a {type(caption).__name__}, not a text")
    for suffix, image in images.items():
        write_atomically(folder.figure_path(experiment.name, suffix), image)
    return Picture(
        experiment.title,
        caption,
        "data:image/svg+xml;base64," + base64.b64encode(images["svg"]).decode(),
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
        table = tables.read(folder.table_path(experiment.name))
        config = json.loads(tables.settings_of(table)["config"])
        asked = asking.asked(folder, experiment)
        if asked:  # Cells that were there already say what was asked when they were made.
            own = experiment.settings.section
            config |= {"evaluate": asked.evaluate, **({own: asked.settings} if own else {})}
        add("", config)
    return list(flat.items())
