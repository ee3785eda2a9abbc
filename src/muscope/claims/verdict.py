"""From one number per agent to an interval and a verdict.

Table ``claims``, one row per claim:

    claim      str    number and letter
    text       str    what the paper says, as it is tested
    statistic  str    what is computed per agent; the claim says that it is positive
    estimate   float  mean over agents
    low, high  float  95 % bootstrap interval over agents
    n_agents   int
    verdict    str    'holds' (low > 0), 'does not hold' (high <= 0), 'inconclusive', or
                      'missing' (``note`` says what)
    note       str

and the settings every table has (:data:`muscope.storage.tables.SETTINGS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from scipy.special import ndtr, stdtrit

from muscope.claims.cells import Cells, MissingCell
from muscope.claims.paper import CLAIMS, Claim
from muscope.experiments.evaluate import refuse_stale
from muscope.storage import tables
from muscope.storage.run import Run

LEVEL = 0.95
RESAMPLES = 10_000
FEW = 6
SCHEMA = {
    "claim": pa.string(),
    "text": pa.string(),
    "statistic": pa.string(),
    "estimate": pa.float64(),
    "low": pa.float64(),
    "high": pa.float64(),
    "n_agents": pa.int64(),
    "verdict": pa.string(),
    "note": pa.string(),
}


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


def verdict(found: Interval) -> str:
    """'holds' if the whole interval is positive, 'does not hold' if none of it is."""
    if found.low > 0:
        return "holds"
    if found.high <= 0:
        return "does not hold"
    return "inconclusive"


def judge(claim: Claim, cells: Cells, seed: int) -> dict[str, object]:
    """One row of the table from one claim's data; lacking data is named, never left out."""
    try:
        values = claim.per_agent(cells)
    except MissingCell as missing:
        return _missing(claim, cells.agents, str(missing))
    undefined = np.flatnonzero(~np.isfinite(values))
    if len(undefined):
        note = f"undefined for agent {', '.join(map(str, undefined))}"
        return _missing(claim, cells.agents, note)
    found = interval(values, seed)
    note = "one agent has no interval" if len(values) < 2 else ""
    return _row(claim, cells.agents, found, verdict(found), note)


def _missing(claim: Claim, agents: int, note: str) -> dict[str, object]:
    return _row(claim, agents, Interval(*[float("nan")] * 3), "missing", note)


def _row(claim: Claim, agents: int, found: Interval, judged: str, note: str) -> dict[str, object]:
    return {
        "claim": claim.name,
        "text": claim.text,
        "statistic": claim.statistic,
        **found._asdict(),
        "n_agents": agents,
        "verdict": judged,
        "note": note,
    }


def judge_run(run: Run, claims: Sequence[Claim] = CLAIMS) -> pa.Table:
    """Judge all claims from a run's tables, and write ``tables/claims.parquet``.

    Raises:
        RunError: a table is damaged, or was made with other checkpoints or settings.

    """
    config = run.config
    rows = []
    for claim in (c for c in claims if c.is_about(config.environment.name)):
        path = run.table_path(claim.table)
        if path.exists():
            refuse_stale(run, claim.table)
            cells = Cells(claim.table, tables.read(path), config.train.agents, config.train.steps)
            rows.append(judge(claim, cells, config.evaluate.seed))
        else:
            note = f"no table {claim.table}; 'muscope evaluate' makes it"
            rows.append(_missing(claim, config.train.agents, note))
    columns = {name: [row[name] for row in rows] for name in SCHEMA}
    table = tables.make(SCHEMA, columns, config)
    tables.write(run.table_path("claims"), table, "")
    return table


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
