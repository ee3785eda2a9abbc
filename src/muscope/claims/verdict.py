"""From one number per agent to an interval and a verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from scipy.special import ndtr, stdtrit

from muscope import statistics
from muscope.claims.cells import Cells, MissingCell
from muscope.claims.claim import Claim
from muscope.errors import RunError
from muscope.storage import tables
from muscope.storage.folder import Folder
from muscope.storage.schema import Schema, integer, number, text

LEVEL = 0.95
RESAMPLES = 10_000
FEW = 6
SCHEMA = Schema(
    "claims",
    "one row per claim",
    (
        text("claim", "number and letter"),
        text("table", "which table it reads"),
        text("text", "what the paper says, as it is tested"),
        text("statistic", "what is computed per agent; the claim says that it is positive"),
        number("estimate", "mean over agents"),
        number("low", "lower end of the 95 % interval over agents"),
        number("high", "upper end of it"),
        integer("n_agents", "agents that it is judged by: those that have not diverged"),
        text(
            "verdict",
            "'holds' (low > 0), 'does not hold' (high <= 0), 'inconclusive', or 'missing'",
        ),
        text("note", "what is missing, why there is no interval, and which agents diverged"),
    ),
)


class Interval(NamedTuple):
    """A mean over agents with its confidence interval."""

    estimate: float
    low: float
    high: float


def interval(values: Float[np.ndarray, "P"], seed: int) -> Interval:
    """Mean over agents with a seeded 95 % bootstrap interval.

    The expanded percentile interval (Hesterberg, The American Statistician 69:371, 2015): the
    plain one is too narrow for few agents, so its quantiles are moved out to make up for the
    bootstrap's missing factor n / (n - 1) and for the normal instead of Student's t.  With
    fewer than six agents those quantiles lie beyond what resampling can reach, and the wider
    of it and Student's t interval is taken.  NaN bounds for a single agent.
    """
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean, float("nan"), float("nan"))
    student = -stdtrit(n - 1, (1 - LEVEL) / 2)
    tail = float(ndtr(-np.sqrt(n / (n - 1)) * student))
    draws = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    low, high = np.quantile(values[draws].mean(axis=1), [tail, 1 - tail])
    if n < FEW:
        reach = student * np.std(values, ddof=1) / np.sqrt(n)
        low, high = min(low, mean - reach), max(high, mean + reach)
    return Interval(mean, float(low), float(high))


def verdict(estimated: Interval) -> str:
    """'holds' if the whole interval is positive, 'does not hold' if none of it is."""
    if estimated.low > 0:
        return "holds"
    if estimated.high <= 0:
        return "does not hold"
    return "inconclusive"


def judge(
    claim: Claim, cells: Cells, seed: int, diverged: Mapping[str, int] | None = None
) -> dict[str, object]:
    """One row of the table from one claim's data; lacking data is named, never left out.

    Args:
        claim: which.
        cells: the data of the agents that have not diverged.
        seed: of the bootstrap.
        diverged: by agent, the checkpoint at which it had.

    """
    notes = [
        f"agent {agent} diverged by training step {step:,} and is not among the {len(cells.agents)}"
        for agent, step in (diverged or {}).items()
    ]
    count = len(cells.agents)
    try:
        values = claim.per_agent(cells)
    except MissingCell as missing:
        return _missing(claim, count, "; ".join([str(missing), *notes]))
    undefined = np.flatnonzero(~np.isfinite(values))
    if len(undefined) or not count:
        named = ", ".join(str(cells.agents[i]) for i in undefined)
        return _missing(
            claim, count, "; ".join([*[f"undefined for agent {named}"] * bool(named), *notes])
        )
    estimated = interval(values, seed)
    if count < 2:
        notes.insert(0, "one agent has no interval")
    return _row(claim, count, estimated, verdict(estimated), "; ".join(notes))


def _missing(claim: Claim, agents: int, note: str) -> dict[str, object]:
    return _row(claim, agents, Interval(*[float("nan")] * 3), "missing", note)


def _row(
    claim: Claim, agents: int, estimated: Interval, judged: str, note: str
) -> dict[str, object]:
    return {
        "claim": claim.name,
        "table": claim.table,
        "text": claim.text,
        "statistic": claim.statistic,
        **estimated._asdict(),
        "n_agents": agents,
        "verdict": judged,
        "note": note,
    }


def judge_tables(folder: Folder, claims: Sequence[Claim], unknown: Sequence[str] = ()) -> pa.Table:
    """Judge claims from the tables of one examination, and write ``tables/claims.parquet``.

    Args:
        folder: of the examination.
        claims: those to judge.
        unknown: tables whose claims are not among them; their rows stay as they are.

    Raises:
        RunError: there are no tables, or one is damaged.

    """
    known = [name for name in folder.tables() if name != SCHEMA.name]
    if not known:
        raise RunError(
            f"{folder.path} has no tables; 'muscope evaluate' or 'muscope examine' makes them."
        )
    settings = _settings(folder, known)
    agents, steps, _ = tables.origin(folder.table_path(known[0]))
    judged = []
    for claim in sorted(claims, key=lambda c: c.place):
        if not claim.is_about(settings["environment"]):
            continue
        if claim.table in known:
            path = folder.table_path(claim.table)
            diverged = json.loads(tables.told(path).get("diverged", "{}"))
            sound = [agent for agent in range(agents) if str(agent) not in diverged]
            cells = Cells(claim.table, tables.read(path), sound, steps)
            judged.append(judge(claim, cells, settings["evaluate_seed"], diverged))
        else:
            note = f"no table {claim.table}; evaluating its figure makes it"
            judged.append(_missing(claim, agents, note))
    columns = {name: [row[name] for row in judged] for name in SCHEMA.names}
    table = pa.concat_tables([tables.make(SCHEMA, columns, settings), *_kept(folder, unknown)])
    tables.write(folder.table_path(SCHEMA.name), table, {})
    return table


def _kept(folder: Folder, unknown: Sequence[str]) -> list[pa.Table]:
    """The rows of claims about tables that are not judged here, as they were."""
    path = folder.table_path(SCHEMA.name)
    before = tables.read(path) if unknown and path.exists() else None
    if before is None or "table" not in before.column_names:  # Of an older version.
        return []
    return [statistics.rows(before, table=unknown).replace_schema_metadata(None)]


def _settings(folder: Folder, known: Sequence[str]) -> dict[str, Any]:
    """What all tables of an examination share, with the settings of every experiment."""
    everything: dict[str, Any] = {}
    for name in known:
        settings = tables.settings_of(tables.read(folder.table_path(name)))
        everything |= json.loads(settings["config"])
    simulations = everything["search"]["simulations"]  # Some tables have a column of that name.
    return {
        **settings,
        "simulations": simulations,
        "config": json.dumps(everything, sort_keys=True),
    }


def as_text(table: pa.Table) -> str:
    """The claims as lines for a terminal."""
    lines = [f"{'claim':<6}{'estimate':>10}  {'95 % interval':<22}{'verdict':<15}"]
    for row in table.to_pylist():
        known = row["verdict"] != "missing"
        numbers = f"{row['estimate']:>10.3g}" if known else " " * 10
        bounds = f"[{row['low']:.3g}, {row['high']:.3g}]" if known else ""
        note = f" ({row['note']})" if row["note"] else ""
        lines.append(
            f"{row['claim']:<6}{numbers}  {bounds:<22}{row['verdict']:<15}{row['text']}{note}"
        )
    return "\n".join(lines)
