"""Writes docs/studies.md from the tables of the studies: every number in it comes from there.

    python docs/write_studies.py            # write it
    python docs/write_studies.py --check    # fail if it is not what the tables say

``docs/results/studies.toml`` lists the studies; a file ``remarks.md`` in a study's folder holds
prose whose numbers are written as in {figure2.return policy=mcts step=last}: a table and one of
its columns, and what other columns must be.
"""

from __future__ import annotations

import math
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import pyarrow as pa

from muscope import statistics
from muscope.claims import FEWEST, UNJUDGED
from muscope.claims import SCHEMA as CLAIMS
from muscope.claims.interval import ALPHA
from muscope.comparison import CORRECTED, Compared, between, curves
from muscope.comparison.differences import short, told
from muscope.experiments import registry
from muscope.experiments.planning_claims import POLICIES
from muscope.experiments.style import thousands
from muscope.storage import tables
from muscope.storage.folder import Folder

HERE = Path(__file__).parent
PAGE = HERE / "studies.md"
WIDTH = 120
MOST_AGENTS = 10_000
"""Nobody will train more."""
NUMBER = re.compile(r"\{(\w+)\.(\w+)((?: \w+=[\w,.-]+)*)\}")


class Study(NamedTuple):
    """A folder of tables, and what its command was."""

    folder: Path
    title: str
    command: str
    took: str
    """On which machine, how long."""
    column: str = ""
    """Its name in the table of all studies; empty: it has no column there."""

    def table(self, name: str) -> pa.Table | None:
        path = self.folder / f"{name}.parquet"
        return tables.read(path) if path.exists() else None

    def claims(self, reading: str = "current") -> list[dict[str, Any]]:
        table = self.table(CLAIMS.name)
        assert table is not None, f"{self.folder} has no claims; 'muscope claims RUN' makes them"
        return statistics.rows(table, reading=reading).to_pylist()


class Beside(NamedTuple):
    """Two studies that are held against each other."""

    title: str
    studies: list[str]
    """Their folders' names; the first is the reference."""
    remarks: str


class Kept(Folder):
    """A study's folder here, which has nothing but tables."""

    def table_path(self, table: str) -> Path:
        return self.path / f"{table}.parquet"


def listed(kind: str) -> Any:
    """What ``studies.toml`` has of a kind, in its order."""
    return tomllib.loads((HERE / "results" / "studies.toml").read_text())[kind]


def studies() -> list[Study]:
    """All that are listed."""
    return [Study(HERE / "results" / one.pop("folder"), **one) for one in listed("study")]


def pm(summary: statistics.Summary, digits: int = 3) -> str:
    """Mean ± standard error over agents."""
    if summary.n == 0:
        return "-"
    mean = f"{summary.mean:.{digits}g}"
    return mean if summary.n == 1 else f"{mean} ± {summary.standard_error:.2g}"


def grid(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(row: dict[str, Any]) -> str:
    """A claim's verdict with its size, as a cell."""
    if row["verdict"] in UNJUDGED:
        return row["verdict"]
    words = row["verdict"] if row["verdict"] == "inconclusive" else f"**{row['verdict']}**"
    estimate, low, high = (short(row[name]) for name in ("estimate", "low", "high"))
    return f"{words}, {estimate} [{low}, {high}]"


def all_claims(found: list[Study]) -> str:
    """The paper's sentences, and what every study with a column says of them."""
    found = [study for study in found if study.column]
    texts: dict[tuple[str, str], dict[str, str]] = {}
    for study in found:
        for row in study.claims():
            texts.setdefault((row["claim"], row["text"]), {})[study.column] = verdict(row)
    changes = listed("changes")
    assert {name for name, _ in texts} >= {*changes}, "changes of a claim that there is not"
    rows = [
        [
            *(name, text, *(cells.get(study.column, "not said of it") for study in found)),
            changes.get(name, ""),
        ]
        for (name, text), cells in sorted(texts.items(), key=lambda item: _place(item[0][0]))
    ]
    columns = [study.column for study in found]
    return grid(["", "the paper says", *columns, "what changes it in Cart Pole"], rows)


def _place(name: str) -> tuple[int, str]:
    return int("".join(c for c in name if c.isdigit()) or 10**6), name


def decided(study: Study) -> str:
    """How many claims a study decides."""
    rows = study.claims()
    known = sum(row["verdict"] in ("holds", "does not hold") for row in rows)
    return f"{known} of {len(rows)} claims are decided."


def returns(study: Study) -> str:
    """Figure 2 as a table."""
    table = study.table("figure2")
    made = statistics.values(table, "policy")
    names = [name for name in ("mcts", "prior", "prior_tempered") if name in made]
    columns = []
    for name in names:
        steps, points = statistics.curve(table, "return", "step", policy=name)
        columns.append([pm(point, 4) for point in points])
    head = ["training step", "MCTS", "policy prior", "policy prior at the same T"][: 1 + len(names)]
    return grid(head, [[f"{s:,}", *cells] for s, *cells in zip(steps, *columns, strict=True)])


def errors(study: Study) -> str:
    """Figure 3 as a table, with the error over states beside that over agents."""
    table = study.table("figure3")
    horizons = statistics.values(table, "horizon")
    shown = [horizons[0], horizons[len(horizons) // 2], horizons[-1]]
    rows = []
    for step in statistics.values(table, "step"):
        cells = [pm(statistics.summary(table, "error", step=step, horizon=h)) for h in shown]
        last = {"step": step, "horizon": horizons[-1]}
        beside = [
            statistics.summary(table, column, **last).mean
            for column in ("states_error", "average_reward_error", "spread")
        ]
        rows.append([f"{step:,}", *cells, *(f"{x:.2g}" for x in beside)])
    head = [
        "training step",
        *(f"error, h = {h}" for h in shown),
        "one agent's error over states",
        "mean reward predicted",
        "spread of true values",
    ]
    return grid(head, rows)


def planning(study: Study) -> str:
    """Figure 7 with the most simulations, by checkpoint."""
    table = study.table("figure7")
    steps = statistics.values(table, "step")
    most = statistics.values(table, "simulations")[-1]
    planners = [
        (f"{model} model, {prior} prior, {leaf} leaves", dict(zip(POLICIES, key, strict=True)))
        for leaf in statistics.values(table, "leaf")
        for model in ("learned", "true")
        for prior in ("policy", "uniform")
        if leaf != "none"
        for key in [(model, prior, leaf, most)]
    ]
    planners += [(f"policy prior alone, {kind}", {"prior": kind}) for kind in ("sampled", "greedy")]
    rows = [
        [name, *(pm(statistics.summary(table, "return", step=step, **where)) for step in steps)]
        for name, where in planners
    ]
    return grid([f"return, {most} simulations", *(f"{step:,}" for step in steps)], rows)


BESIDE: dict[str, Callable[[Study], str]] = {
    "figure2": returns,
    "figure3": errors,
    "figure7": planning,
}
"""Tables beside the pictures."""


def figures(study: Study) -> Iterator[str]:
    """Every figure of a study with its caption."""
    for experiment in registry.everything().values():
        given = {name: study.table(name) for name in experiment.files}
        if any(table is None for table in given.values()):
            continue
        yield f"### {experiment.title}"
        picture = HERE / "figures" / study.folder.name / f"{experiment.name}.png"
        if picture.exists():
            yield f"![{experiment.title}]({picture.relative_to(HERE)})"
        yield wrapped(experiment.caption(given))
        if experiment.name in BESIDE:
            yield BESIDE[experiment.name](study)


def would_decide(row: dict[str, Any], together: list[dict[str, Any]]) -> str:
    """How many agents would decide what is inconclusive, if the estimate and the spread over
    agents stand: the interval narrows with the root of their number.
    """
    if row["verdict"] != "inconclusive" or row["reading"] != "current" or row["n_agents"] < FEWEST:
        return ""
    # Holm's factor: claims whose p is no smaller.
    factor = sum(other["p"] >= row["p"] for other in together)
    normal = NormalDist()
    found = normal.inv_cdf(1 - row["p"] / 2)
    needed = normal.inv_cdf(1 - ALPHA / factor / 2) / found if found else math.inf
    agents = row["n_agents"] * needed**2
    rounded = float(f"{agents:.2g}")
    told = f"about {rounded:,.0f}" if rounded < MOST_AGENTS else f"more than {MOST_AGENTS:,}"
    return f"{told} agents would decide it, if the estimate stands"


def claims_of(study: Study) -> str:
    """All readings of a study's claims."""
    current = study.claims()
    rows = [
        [
            row["claim"],
            row["text"],
            verdict(row),
            "" if row["p_adjusted"] != row["p_adjusted"] else f"{row['p_adjusted']:.2g}",
            "; ".join(filter(None, (would_decide(row, current), row["note"]))),
        ]
        for reading in ("current", "former")
        for row in study.claims(reading)
    ]
    return grid(["claim", "the paper says", "verdict", "corrected p", "note"], rows)


def filled(text: str, study: Study) -> str:
    """Prose with its numbers put in."""

    def number(match: re.Match[str]) -> str:
        name, column, given = match.groups()
        table = study.table(name)
        assert table is not None, f"{match.group()}: {study.folder} has no table {name}"
        where: dict[str, Any] = {}
        for pair in given.split():
            key, value = pair.split("=")
            known = statistics.values(table, key)
            where[key] = known[-1] if value == "last" else type(known[0])(value)
            assert where[key] in known, f"{match.group()}: {key} is one of {known}"
        return pm(statistics.summary(table, column, **where))

    return NUMBER.sub(number, text)


def wrapped(text: str) -> str:
    """A paragraph, or an item of a list, in lines that fit."""
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def beside(both: Beside, found: list[Study]) -> Iterator[str]:
    """How far two studies differ, by everything that a figure is compared by."""
    columns = {study.folder.name: study.column for study in found}
    runs = [Compared(columns[name], Kept(HERE / "results" / name)) for name in both.studies]
    yield f"## {both.title}"
    for paragraph in both.remarks.strip().split("\n\n"):
        yield wrapped(" ".join(paragraph.split()))
    yield wrapped(CORRECTED)
    compared = [(title, table.to_pylist()) for title, table in _differences(runs)]
    notes = {f"{title}: {row['note']}" for title, rows in compared for row in rows if row["note"]}
    for note in sorted(notes):
        yield wrapped(note)
    rows = [
        [
            title if i == 0 else "",
            row["measure"],
            row["at"],
            f"{row['reference_mean']:.3g}",
            f"{row['run_mean']:.3g}",
            told(row),
            row["verdict"],
        ]
        for title, rows in compared
        for i, row in enumerate(rows)
    ]
    yield grid(["", "measure", "at", *(run.name for run in runs), "difference", ""], rows)


def _differences(runs: list[Compared]) -> Iterator[tuple[str, pa.Table]]:
    for experiment in runs[0].experiments():
        if all(run.has(experiment) for run in runs):
            yield experiment.title, between(experiment, curves(experiment, runs), runs)


def section(study: Study) -> Iterator[str]:
    """One study."""
    yield f"## {study.title}"
    yield f"```sh\n{study.command}\n```"
    table = study.table("figure2")
    about = statistics.values(table, "agent")
    last = thousands(statistics.values(table, "step")[-1])
    yield wrapped(f"{len(about)} agents, {last} training steps. {study.took} {decided(study)}")
    remarks = study.folder / "remarks.md"
    if remarks.exists():
        for paragraph in remarks.read_text().strip().split("\n\n"):
            yield wrapped(filled(" ".join(paragraph.split()), study))
    yield claims_of(study)
    yield from figures(study)


def page() -> str:
    """The whole page."""
    found = studies()
    parts = [
        "# Studies",
        "Written by `python docs/write_studies.py` from the tables in [results](results/); every "
        "number is a mean over agents ± one standard error, or stands with its 95 % interval.",
        "## What the paper says, and what each study says of it",
        all_claims(found),
    ]
    parts[1] = wrapped(parts[1])
    for both in listed("beside"):
        parts += beside(Beside(**both), found)
    for study in found:
        parts += section(study)
    return "\n\n".join(parts) + "\n"


def main() -> None:
    written = page()
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PAGE.read_text() == written else f"{PAGE} is not what the tables say")
    PAGE.write_text(written)


if __name__ == "__main__":
    main()
