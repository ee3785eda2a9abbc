"""The page of a comparison: runs side by side, from their tables alone.

compare.html                   the page, self-contained
compare/values.{parquet,csv}         the curves
compare/differences.{parquet,csv}    how far runs are from the reference
compare/claims.{parquet,csv}         the paper's claims, each run judged by itself
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pyarrow as pa
from matplotlib.figure import Figure
from pyarrow import csv

from muscope import claims
from muscope.comparison import CORRECTED, VALUES, Compared, Curve, beside, between, curves, table_of
from muscope.comparison.differences import DIFFERENCES, DIFFERS, told
from muscope.comparison.draw import MOST_BANDS, draw_curves, draw_differences
from muscope.experiments import registry, style
from muscope.experiments.base import Experiment
from muscope.storage import tables
from muscope.storage.checkpoint import write_atomically
from muscope.storage.schema import Schema, text
from muscope.version import __version__

PAGE, TABLES = "compare.html", "compare"
"""In the folder that a comparison is written to."""
CLAIMS = Schema(
    "claims",
    "one row per run and claim",
    (text("run", "the run"), *claims.SCHEMA.columns),
)
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("muscope.reporting"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)


class _Part(NamedTuple):
    """What the page has of one experiment."""

    title: str
    curves: str
    """A picture's URI."""
    banded: bool
    differences: str
    """A picture's URI; empty if there are none."""
    rows: list[dict[str, Any]]
    notes: list[str]


def write(runs: Sequence[Compared], out: Path) -> Path:
    """Write the tables and the page of a comparison; returns the page's path.

    Args:
        runs: the first is the reference; see :func:`muscope.comparison.refuse`.
        out: the folder; files of a former comparison in it are replaced.

    Raises:
        RunError: a table is damaged.
        FigureError: the measures of a user's figure cannot be read.

    """
    reference = runs[0]
    experiments = [e for e in reference.experiments() if any(run.has(e) for run in runs[1:])]
    found = {e.name: _curves(e, runs) for e in experiments}
    differences = {e.name: between(e, found[e.name], runs) for e in experiments}
    judged = _claims(runs)
    written = {
        VALUES.name: table_of(found, reference.name),
        DIFFERENCES.name: pa.concat_tables(differences.values()),
        CLAIMS.name: judged,
    }
    for name, table in written.items():
        _write(out / TABLES / name, table)
    every = [row for table in differences.values() for row in table.to_pylist()]
    page = _TEMPLATES.get_template("compare.html").render(
        environment=reference.said(experiments[0])["environment"],
        runs=[_about(run, reference) for run in runs],
        corrected=CORRECTED,
        missing=_missing(runs),
        claimed=[row for row in every if row["verdict"] in DIFFERS],
        differs=DIFFERS,
        told=told,
        parts=[
            _part(e, found[e.name], differences[e.name].to_pylist(), [run.name for run in runs])
            for e in experiments
            if found[e.name]
        ],
        claims=_pivot(judged.to_pylist()),
        claims_corrected=claims.CORRECTED,
        unjudged=claims.UNJUDGED,
        files=[f"{TABLES}/{name}.parquet" for name in written],
        version=__version__,
    )
    write_atomically(out / PAGE, page.encode())
    return out / PAGE


def _curves(
    experiment: Experiment, runs: Sequence[Compared]
) -> list[tuple[Curve, dict[str, Curve]]]:
    with registry.blamed(experiment, "measures"):
        return curves(experiment, runs)


def _write(path: Path, table: pa.Table) -> None:
    tables.write(path.with_suffix(".parquet"), table, {})
    buffer = io.BytesIO()
    csv.write_csv(table, buffer)
    write_atomically(path.with_suffix(".csv"), buffer.getvalue())


def _about(run: Compared, reference: Compared) -> dict[str, Any]:
    origin = tables.origin(run.folder.table_path(run.experiments()[0].name))
    return {
        "name": run.name,
        "agents": origin.agents,
        "steps": origin.training_steps,
        "settings": beside(run, reference),
    }


def _missing(runs: Sequence[Compared]) -> list[str]:
    """What cannot be compared, in sentences."""
    words = []
    for run in runs:
        lacking = [e.name for e in runs[0].experiments() if not run.has(e)]
        if lacking:
            words.append(f"{run.name} has no table of {', '.join(lacking)}.")
        more = [e.name for e in run.experiments() if not runs[0].has(e)]
        if more:
            words.append(
                f"{', '.join(more)} of {run.name} is not compared: {runs[0].name} has no such "
                "table."
            )
        if run.table(claims.SCHEMA.name) is None:
            words.append(
                f"The claims of {run.name} are not judged; 'muscope claims {run.folder.path}' does."
            )
    return words


def _part(
    experiment: Experiment,
    found: Sequence[tuple[Curve, Mapping[str, Curve]]],
    rows: list[dict[str, Any]],
    names: Sequence[str],
) -> _Part:
    notes = {row["run"]: row["note"] for row in rows if row["note"]}
    return _Part(
        experiment.title,
        _uri(draw_curves(found, names)),
        len(names) <= MOST_BANDS,
        _uri(draw_differences(rows, names)) if rows else "",
        rows,
        [f"{run} was looked at with other settings: {note}." for run, note in notes.items()],
    )


def _uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    with style.context():  # Its hash salt makes the SVG the same at every drawing.
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _claims(runs: Sequence[Compared]) -> pa.Table:
    """The verdicts of all runs that have been judged."""
    rows = [
        {"run": run.name, **row}
        for run in runs
        if (table := run.table(claims.SCHEMA.name)) is not None
        for row in table.select(list(claims.SCHEMA.names)).to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=CLAIMS.arrow())


def _pivot(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per current claim, with what every run's table says of it."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["reading"] == "current":
            claim = found.setdefault(
                row["claim"], {"label": row["claim"], "text": row["text"], "by_run": {}}
            )
            claim["by_run"][row["run"]] = row
    return list(found.values())
