"""The report stage: draw every table, and gather the pictures in one HTML file."""

from __future__ import annotations

import base64
import io
import json
from typing import Any, NamedTuple

import jinja2
from matplotlib.figure import Figure

import muscope
from muscope import envs
from muscope.claims import judge_run
from muscope.errors import RunError
from muscope.experiments import figure2, style
from muscope.experiments.evaluate import EXPERIMENTS, refuse_stale
from muscope.experiments.style import thousands
from muscope.statistics import Summary
from muscope.storage import tables
from muscope.storage.checkpoint import write_atomically
from muscope.storage.run import Run

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("muscope.reporting"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)


_NUMBERS = ("estimate", "low", "high")


class Picture(NamedTuple):
    """One figure of the page."""

    title: str
    caption: str
    uri: str
    table: str
    wide: bool
    """Wider than one column of print: a phone scrolls it."""


def report(run: Run) -> None:
    """Write ``figures/``, the claims and ``report.html`` from ``tables/``.

    Raises:
        RunError: no table exists yet, or one is damaged.

    """
    made = [e for e in EXPERIMENTS.values() if run.table_path(e.name).exists()]
    for experiment in made:
        refuse_stale(run, experiment.name)
    pictures = []
    for experiment in made:
        given = {name: tables.read(run.table_path(name)) for name in experiment.files}
        figure = experiment.plot(given)
        for suffix in ("png", "svg"):
            write_atomically(run.figure_path(experiment.name, suffix), _image(figure, suffix))
        svg = run.figure_path(experiment.name, "svg").read_bytes()
        uri = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
        pictures.append(
            Picture(
                experiment.title,
                experiment.caption(given),
                uri,
                ", ".join(f"tables/{name}.parquet" for name in experiment.files),
                figure.get_figwidth() > 4,
            )
        )
    if not pictures:
        raise RunError(f"{run.path} has no tables; run 'muscope evaluate' on it first.")
    page = _TEMPLATES.get_template("report.html").render(
        environment=run.config.environment.name,
        preset=run.config.preset,
        agents=run.config.train.agents,
        steps=run.config.train.steps,
        pictures=pictures,
        film=_film(run),
        claims=judge_run(run).select(["claim", "text", *_NUMBERS, "verdict", "note"]).to_pylist(),
        returns=_returns(run),
        training=_training(run),
        settings=_settings(run),
        version=muscope.__version__,
    )
    write_atomically(run.report_path, page.encode())


def _film(run: Run) -> str:
    """The run's film as a URI, or nothing."""
    if not run.film_path.exists():
        return ""
    return "data:image/gif;base64," + base64.b64encode(run.film_path.read_bytes()).decode()


def _image(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    with style.context():  # Its hash salt makes the SVG the same at every drawing.
        figure.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()


def _returns(run: Run) -> list[dict[str, str]]:
    """Figure 2 in words, one row per checkpoint."""
    path = run.table_path("figure2")
    if not path.exists():
        return []
    curves = figure2.curves(tables.read(path))
    return [
        {"step": thousands(step), "mcts": _pm(mcts), "prior": _pm(prior)}
        for (step, mcts), (_, prior) in zip(curves["mcts"], curves["prior"], strict=True)
    ]


def _pm(summary: Summary) -> str:
    if summary.n == 1:
        return f"{summary.mean:.1f}"
    return f"{summary.mean:.1f} ± {summary.standard_error:.1f}"


def _training(run: Run) -> dict[str, str]:
    """What training took, from the log."""
    lines = run.metrics_path.read_text().splitlines() if run.metrics_path.exists() else []
    if not lines:
        return {}
    last = json.loads(lines[-1])
    config = run.config
    spec = envs.make(config.environment).spec
    return {
        "training steps, per agent": f"{last['step']:,}",
        "environment steps, per agent": f"{last['rounds'] * config.train.lanes:,}",
        "time limit of an episode": f"{spec.time_limit:,} steps",
        "training time, all agents": f"{last['seconds']:.0f} s",
    }


def _settings(run: Run) -> list[tuple[str, Any]]:
    from muscope.config import to_dict

    flat: list[tuple[str, Any]] = []
    for section, values in to_dict(run.config).items():
        if isinstance(values, dict):
            flat += [(f"{section}.{name}", value) for name, value in values.items()]
        else:
            flat.append((section, values))
    return flat
