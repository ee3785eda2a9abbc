"""From a claim's data to a verdict, and from an examination's tables to the table of verdicts."""

from __future__ import annotations

import functools
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from muscope import statistics
from muscope.claims.cells import AtCeiling, Cells, MissingCell
from muscope.claims.claim import Claim, Noted
from muscope.claims.interval import ALPHA, Interval, holm, interval
from muscope.errors import RunError
from muscope.storage import tables
from muscope.storage.folder import Folder
from muscope.storage.schema import Schema, integer, number, text

MISSING, CANNOT_TELL = "missing", "cannot tell"
UNJUDGED = (MISSING, CANNOT_TELL)
"""Verdicts without numbers."""
FEWEST = 3
"""Agents that a verdict needs: two may be equal by chance, and their interval then has no width."""
CORRECTED = (
    "p is two-sided and belongs to the interval; verdicts go by p corrected for the number of "
    "claims that are judged together (Holm's step-down, level 5 %). Intervals are not corrected. "
    "Former readings have verdicts of their own, not corrected and not counted. Fewer than "
    f"{FEWEST} agents decide nothing."
)
"""For readers of the verdicts."""
SCHEMA = Schema(
    "claims",
    "one row per claim and reading",
    (
        text("claim", "number and letter; 'former' after it for a former reading"),
        text("reading", "'current', or 'former': shown beside the reading that took its place"),
        text("table", "which table it reads"),
        text("text", "what the paper says, as it is tested"),
        text("statistic", "what is computed per agent; the claim says that it is positive"),
        number("estimate", "mean over agents"),
        number("low", "lower end of the 95 % interval over agents, not corrected"),
        number("high", "upper end of it"),
        number(
            "p",
            "two-sided: the smallest alpha at which the interval leaves out 0; not below 1e-5; "
            "NaN for a single agent",
        ),
        number(
            "p_adjusted",
            "p by Holm's step-down over the current readings that have one: the paper's claims "
            "together, those of a user's figure together; NaN for former readings",
        ),
        integer("n_agents", "agents that it is judged by: those that have not diverged"),
        text(
            "verdict",
            "by p_adjusted, of former readings by p: 'holds' (below 0.05, estimate above 0), 'does "
            f"not hold' (below 0.05, estimate below 0), or 'inconclusive', always with fewer than "
            f"{FEWEST} agents; 'cannot tell': all that is compared is at the ceiling; 'missing': "
            "data are",
        ),
        text(
            "note",
            "what is missing or left out, sizes, why there is no interval, which agents diverged",
        ),
    ),
)


def verdict(estimate: float, p: float, agents: int) -> str:
    """'holds' or 'does not hold', by the side of 0 that an estimate is on, if p is small and there
    are :data:`FEWEST` agents.
    """
    if p < ALPHA and agents >= FEWEST:
        return "holds" if estimate > 0 else "does not hold"
    return "inconclusive"


def judge(
    claim: Claim, cells: Cells, seed: int, diverged: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """One row of the table from one claim's data, as if it were judged alone; lacking data is
    named, never left out.

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
    if not count:
        return _unjudged(claim, count, MISSING, notes)
    try:
        found = claim.per_agent(cells)
    except MissingCell as missing:
        return _unjudged(claim, count, MISSING, [str(missing), *notes])
    except AtCeiling as ceiling:
        return _unjudged(claim, count, CANNOT_TELL, [str(ceiling), *notes])
    values, note = found if isinstance(found, Noted) else (found, "")
    notes = [*[note] * bool(note), *notes]
    undefined = np.flatnonzero(~np.isfinite(values))
    if len(undefined):
        named = ", ".join(str(cells.agents[i]) for i in undefined)
        return _unjudged(claim, count, MISSING, [f"undefined for agent {named}", *notes])
    estimated = interval(values, seed)
    if count < FEWEST:
        has = "one agent has no interval, and" if count < 2 else "two agents:"
        notes.insert(0, f"{has} a verdict needs {FEWEST}")
    judged = verdict(estimated.estimate, estimated.p, count)
    return _row(claim, count, estimated, judged, notes)


def correct(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of claims that are judged together, with p-values and verdicts corrected for their
    number.
    """
    current = [row["reading"] == "current" for row in rows]
    p = np.where(current, [row["p"] for row in rows], np.nan)
    return [_corrected(row, float(by_all)) for row, by_all in zip(rows, holm(p), strict=True)]


def _corrected(row: dict[str, Any], p: float) -> dict[str, Any]:
    if row["reading"] == "former" or row["verdict"] in UNJUDGED:
        return row
    return {**row, "p_adjusted": p, "verdict": verdict(row["estimate"], p, row["n_agents"])}


def _unjudged(claim: Claim, agents: int, judged: str, notes: Sequence[str]) -> dict[str, Any]:
    return _row(claim, agents, Interval(*[float("nan")] * 4), judged, notes)


def _row(
    claim: Claim, agents: int, estimated: Interval, judged: str, notes: Sequence[str]
) -> dict[str, Any]:
    return {
        "claim": claim.label,
        "reading": "former" if claim.former else "current",
        "table": claim.table,
        "text": claim.text,
        "statistic": claim.statistic,
        **estimated._asdict(),
        "p_adjusted": float("nan") if claim.former else estimated.p,
        "n_agents": agents,
        "verdict": judged,
        "note": "; ".join(notes),
    }


def judge_tables(
    folder: Folder, families: Sequence[Sequence[Claim]], unknown: Sequence[str] = ()
) -> pa.Table:
    """Judge claims from the tables of one examination, and write ``tables/claims.parquet``.

    Args:
        folder: of the examination.
        families: claims whose verdicts are corrected together: the paper's, a user's figure's.
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
    seed, agents = settings["evaluate_seed"], tables.origin(folder.table_path(known[0])).agents
    data = functools.cache(lambda name: _data(folder, name))
    placed: list[tuple[tuple[int, str, bool], dict[str, Any]]] = []
    for family in families:
        asked = [claim for claim in family if claim.is_about(settings["environment"])]
        rows = [
            judge(claim, data(claim.table)[0], seed, data(claim.table)[1])
            if claim.table in known
            else _untabled(claim, agents)
            for claim in asked
        ]
        placed += zip((claim.place for claim in asked), correct(rows), strict=True)
    judged = [row for _, row in sorted(placed, key=lambda at: at[0])]
    columns = {name: [row[name] for row in judged] for name in SCHEMA.names}
    table = pa.concat_tables([tables.make(SCHEMA, columns, settings), *_kept(folder, unknown)])
    tables.write(folder.table_path(SCHEMA.name), table, {})
    return table


def _untabled(claim: Claim, agents: int) -> dict[str, Any]:
    note = f"no table {claim.table}; evaluating its figure makes it"
    return _unjudged(claim, agents, MISSING, [note])


def _data(folder: Folder, name: str) -> tuple[Cells, dict[str, int]]:
    """A table's rows of the agents that have not diverged, and those that have."""
    table = tables.read(folder.table_path(name))
    origin = tables.origin(folder.table_path(name))
    diverged = json.loads(tables.metadata(table.schema).get("diverged", "{}"))
    sound = [agent for agent in range(origin.agents) if str(agent) not in diverged]
    return Cells(name, table, sound, origin.training_steps), diverged


def _kept(folder: Folder, unknown: Sequence[str]) -> list[pa.Table]:
    """The rows of claims about tables that are not judged here, as they were."""
    path = folder.table_path(SCHEMA.name)
    before = tables.read(path) if unknown and path.exists() else None
    if before is None or not {*SCHEMA.names} <= {*before.column_names}:  # Of an older version.
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
    lines = [
        f"{'claim':<11}{'estimate':>10}  {'95 % interval':<22}{'corrected p':<13}{'verdict':<15}"
    ]
    for row in table.to_pylist():
        known = row["verdict"] not in UNJUDGED
        numbers = f"{row['estimate']:>10.3g}" if known else " " * 10
        bounds = f"[{row['low']:.3g}, {row['high']:.3g}]" if known else ""
        p = f"{row['p_adjusted']:.2g}" if known and row["reading"] == "current" else ""
        note = f" ({row['note']})" if row["note"] else ""
        lines.append(
            f"{row['claim']:<11}{numbers}  {bounds:<22}{p:<13}{row['verdict']:<15}"
            f"{row['text']}{note}"
        )
    return "\n".join([*lines, "", textwrap.fill(CORRECTED, 100)])
