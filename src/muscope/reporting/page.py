"""The report stage: draw every table, and gather the pictures in one HTML file.

It needs a folder's tables and nothing else: no agents, no environment.
"""

from __future__ import annotations

import html
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pyarrow as pa

from muscope import claims, statistics
from muscope.config import differences
from muscope.errors import FigureError, RunError
from muscope.experiments import plans as asking
from muscope.experiments import registry
from muscope.experiments.base import Experiment
from muscope.experiments.style import thousands
from muscope.reporting import embed, figures, look, player
from muscope.statistics import Summary
from muscope.storage import metrics, tables
from muscope.storage.checkpoint import write_atomically
from muscope.storage.folder import Folder
from muscope.version import __version__

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("muscope.reporting"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)

_CLAIMS = [
    *("claim", "reading", "table", "text", "statistic", "estimate", "low", "high"),
    *("p", "p_adjusted", "n_agents", "verdict", "note"),
]


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


class Shown(NamedTuple):
    """What a page shows of one folder."""

    key: str
    """Tells its parts from other folders' in one page."""
    name: str
    path: str
    """As a command takes it."""
    environment: str
    made_as: str
    preset: str
    agents: int
    steps: int
    date: str
    """Of the newest table, as its file says."""
    warnings: list[str]
    """What a reader must know before believing the figures, each once."""
    cards: list[figures.Card]
    tables: dict[str, dict[str, Any]]
    """Those that cards name, packed."""
    claims: list[dict[str, Any]]
    verdicts: str
    """How many claims have which verdict, in words."""
    returns: list[dict[str, str]]
    training: dict[str, str]
    damaged_lines: int
    film: player.Film | None
    states: list[tuple[str, str]]
    """Pages about single states: what each is of, and the page."""
    strange: list[str]
    settings: list[tuple[str, Any]]
    made_by: dict[str, str]
    devices: str


def report(folder: Folder) -> None:
    """Write ``figures/``, the claims and ``report.html`` from ``tables/``.

    Raises:
        RunError: no table exists yet, or one or the film is damaged.
        FigureError: a user's figure could not be drawn; the report is written without it.

    """
    report_together([folder], folder.report_path)


def report_together(folders: Sequence[Folder], path: Path) -> None:
    """Write every folder's ``figures/`` and claims, and one page about all of them.

    Args:
        folders: figures of one name stand side by side, in this order.
        path: of the page.

    Raises:
        RunError: as :func:`report`.
        FigureError: the same.

    """
    shown, failed = [], []
    for i, folder in enumerate(folders):
        of, errors = _shown(folder, f"r{i}")
        shown.append(of)
        failed += errors
    homes = {table: card.name for of in shown for card in of.cards for table in card.tables}
    rows = [[(of, _card(of, name)) for of in shown] for name in registry.everything()]
    page = _TEMPLATES.get_template("report.html").render(
        runs=shown,
        rows=[row for row in rows if any(card for _, card in row)],
        homes=homes,
        labels=_labels(shown),
        asked=_asked_of(shown),
        corrected=claims.CORRECTED,
        unjudged=claims.UNJUDGED,
        signs=SIGNS,
        vega=embed.vega() if any(of.film or _explored(of) for of in shown) else "",
        themes=look.themes(),
        version=__version__,
    )
    write_atomically(path, page.lstrip().encode())
    if failed:
        raise FigureError(f"{'; '.join(failed)}. {path} is written without it.")


def _labels(shown: Sequence[Shown]) -> list[str]:
    """Short names that tell runs apart: their environments', if these do."""
    environments = [of.environment for of in shown]
    return environments if len({*environments}) == len(shown) else [of.name for of in shown]


def _explored(of: Shown) -> bool:
    return any(card.panels for card in of.cards)


def _card(of: Shown, name: str) -> figures.Card | None:
    return next((card for card in of.cards if card.name == name), None)


def _shown(folder: Folder, key: str) -> tuple[Shown, list[str]]:
    """What is shown of a folder, its pictures and claims written, and which figures failed."""
    made, strange = experiments_of(folder)
    if not made:
        raise RunError(
            f"{folder.path} has no tables; 'muscope evaluate' or 'muscope examine' makes them."
        )
    first = tables.read(folder.table_path(made[0].name))
    origin = tables.origin(folder.table_path(made[0].name))
    settings = tables.settings_of(first)
    own = _own_settings(folder, made)
    cards, failed = [], []
    for experiment in made:
        try:
            cards.append(figures.draw(folder, experiment, own[experiment.name]))
        except FigureError as error:
            failed.append(str(error))
    for words in strange:
        print(f"muscope: not drawn: {words}.", file=sys.stderr)
    told = [tables.told(folder.table_path(e.name)) for e in made]
    devices = {about.get("devices", "") for about in told} - {""}
    logs = [metrics.read(path) for path in folder.metrics_paths()]
    judged = _judged(folder)
    film = player.film_of(folder)
    packed = {n: embed.table(tables.read(folder.table_path(n))) for c in cards for n in c.tables}
    return Shown(
        key=key,
        name=folder.path.name,
        path=shlex.quote(str(folder.path)),
        environment=settings["environment"],
        made_as="preset" if "train" in json.loads(settings["config"]) else "agent",
        preset=settings["preset"],
        agents=origin.agents,
        steps=origin.training_steps,
        date=_date(folder, made),
        warnings=figures.warnings(told),
        cards=cards,
        tables={**packed, **(film.tables if film else {})},
        claims=judged.select(_CLAIMS).to_pylist(),
        verdicts=_verdicts(judged),
        returns=_returns(folder),
        training=_training(logs, json.loads(settings["config"])),
        damaged_lines=sum(log.damaged for log in logs),
        film=film,
        states=_states(folder),
        strange=[*strange, *failed],
        settings=_settings(folder, made),
        made_by=origin.made_by,
        devices=" and ".join(sorted(devices)),
    ), failed


def _states(folder: Folder) -> list[tuple[str, str]]:
    """The pages that ``muscope look`` has written into the folder."""
    pages = [path.read_text() for path in sorted(folder.look_path.glob("*.html"))]
    return [(_title(page), page) for page in pages]


def _title(page: str) -> str:
    """What a page calls itself."""
    _, _, rest = page.partition("<title>")
    return html.unescape(rest.partition("</title>")[0])


def _date(folder: Folder, made: Sequence[Experiment]) -> str:
    newest = max(folder.table_path(name).stat().st_mtime for e in made for name in e.files)
    return datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%d")


SIGNS = {"holds": "✓", "does not hold": "✗", "inconclusive": "?"}
"""Beside a verdict, so that it is not told by its colour alone; others have a dash."""


def _verdicts(judged: pa.Table) -> str:
    """15 hold, 9 inconclusive: of the current readings."""
    counts = Counter(statistics.rows(judged, reading="current")["verdict"].to_pylist())
    several = {"holds": "hold", "does not hold": "do not hold"}
    return ", ".join(
        f"{counts[verdict]} {several.get(verdict, verdict) if counts[verdict] > 1 else verdict}"
        for verdict in (*SIGNS, *claims.UNJUDGED)
        if counts[verdict]
    )


def _asked_of(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """All claims in their order, each with its row in every folder or None."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for i, of in enumerate(shown):
        for row in of.claims:
            claim = found.setdefault(
                (row["claim"], row["text"]), {**row, "rows": [None] * len(shown)}
            )
            claim["rows"][i] = row
    order = {key: i for i, key in enumerate(found)}
    return [found[key] for key in sorted(found, key=lambda key: (_number(key[0]), order[key]))]


def _number(claim: str) -> int:
    digits = "".join(c for c in claim.split()[0] if c.isdigit())
    return int(digits) if digits else 10**6


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
