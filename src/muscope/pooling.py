"""Runs whose tables are left, as one: thirty agents from three runs of ten."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from muscope import stages
from muscope.claims import SCHEMA as CLAIMS
from muscope.config import differences
from muscope.errors import RunError
from muscope.progress import say
from muscope.reporting.page import report
from muscope.stages import StudyRun
from muscope.storage import json_file, tables
from muscope.storage.checkpoint import write_atomically
from muscope.storage.folder import EXAMINATION, Folder

OF_A_RUN = {
    "train": ("seed", "agents", "block", "save_seconds"),
    "evaluate": ("seed", "agents_at_once"),
}
"""Settings in which runs may differ whose agents are of one kind."""


def pool(runs: Sequence[Folder | str | Path], out: str | Path) -> Folder:
    """The agents of several runs as those of one, by their tables: claims and a report of all.

    The runs have equal settings and different ``train.seed``, and were looked at alike; give each
    its own ``evaluate.seed`` too, so that agents of equal number do not share the states that they
    are examined at.  Agents are numbered on from run to run.  Checkpoints are not needed; where
    they are there, :func:`muscope.merge` puts blocks of one run together, to the bit.

    Args:
        runs: runs or examinations.
        out: the folder for what is made, an examination: tables, figures, claims, report.

    Raises:
        RunError: they do not belong together, have no table in common, a table is damaged, or
            ``out`` is not free.

    """
    folders = [stages.folder_of(run) for run in runs]
    if len(folders) < 2:
        raise RunError("name two runs or more to pool.")
    for folder in folders:
        if isinstance(folder, StudyRun) and folder.steps():
            stages.refuse_stale(folder)
    path = Path(out)
    if path.exists():
        raise RunError(f"{path} exists; choose another --out.")
    pooled = {name: joined(folders, name) for name in _common(folders)}
    folder = Folder(path)
    for name, table in pooled.items():
        tables.write(folder.table_path(name), table, tables.metadata(table.schema))
    named = [str(each.path) for each in folders]
    write_atomically(path / EXAMINATION, json_file.encoded({"pooled": named}))
    report(folder)
    return folder


def _common(folders: Sequence[Folder]) -> list[str]:
    """The tables that all have; what some have is named and left out."""
    have = [[name for name in folder.tables() if name != CLAIMS.name] for folder in folders]
    common = [name for name in have[0] if all(name in each for each in have)]
    left = sorted({name for each in have for name in each} - {*common})
    if not common:
        raise RunError(
            f"{folders[0].path} has no table that all the others have; evaluate one figure of all."
        )
    if left:
        say(f"not all of them have it, so it is left out: {', '.join(left)}.")
    return common


def joined(folders: Sequence[Folder], name: str) -> pa.Table:
    """One table of all agents, with what its file is to say of itself.

    Raises:
        RunError: the runs do not belong together.

    """
    made = [tables.read(folder.table_path(name)) for folder in folders]
    said = [tables.metadata(table.schema) for table in made]
    origins = [tables.origin(folder.table_path(name)) for folder in folders]
    wholes = [json.loads(tables.settings_of(table)["config"]) for table in made]
    for folder, table, origin, whole in zip(folders, made, origins, wholes, strict=True):
        at = f"{folder.path} and {folders[0].path}"
        lines = differences(_of_kind(wholes[0]), _of_kind(whole))
        if origin.training_steps != origins[0].training_steps:
            lines.append(f"training steps ({origins[0].training_steps} != {origin.training_steps})")
        if lines:
            raise RunError(f"{at} cannot be pooled, their {name} differ in: {', '.join(lines)}.")
        if "agent" not in table.column_names or table.schema.names != made[0].schema.names:
            raise RunError(f"{at} cannot be pooled: the columns of their {name} do not fit.")
    _refuse_equal(folders, wholes, said)
    starts = [sum(origin.agents for origin in origins[:i]) for i in range(len(origins))]
    train = {"train": _of_kind(wholes[0])["train"]} if "train" in wholes[0] else {}
    whole = json.dumps(wholes[0] | train, sort_keys=True)
    parts = [_renumbered(table, start, whole) for table, start in zip(made, starts, strict=True)]
    diverged = {
        str(int(agent) + start): step
        for about, start in zip(said, starts, strict=True)
        for agent, step in json.loads(about.get("diverged", "{}")).items()
    }
    clipped = [line for about in said for line in json.loads(about.get("clipped", "[]"))]
    marks = "\n".join(about.get("mark", "") for about in said)
    about = {
        **said[0],
        "agents": str(sum(origin.agents for origin in origins)),
        "diverged": json.dumps(diverged),
        "clipped": json.dumps(clipped),
        "devices": " and ".join(sorted({about.get("devices", "") for about in said} - {""})),
        "mark": hashlib.sha256(marks.encode()).hexdigest(),
    }
    return pa.concat_tables(parts).replace_schema_metadata(about)


def _of_kind(whole: Mapping[str, Any]) -> dict[str, Any]:
    """All settings but those that are a run's own."""
    kept = dict(whole)
    for section, own in OF_A_RUN.items():
        if section in kept:
            kept[section] = {k: v for k, v in kept[section].items() if k not in own}
    return kept


def _refuse_equal(
    folders: Sequence[Folder],
    wholes: Sequence[Mapping[str, Any]],
    said: Sequence[Mapping[str, str]],
) -> None:
    """Raise if two are of the same agents."""
    for i, folder in enumerate(folders):
        for j in range(i):
            seeds = [wholes[k].get("train", {}).get("seed") for k in (i, j)]
            if seeds[0] == seeds[1] is not None or said[i].get("mark") == said[j].get("mark"):
                raise RunError(
                    f"{folder.path} and {folders[j].path} are of the same agents, as far as they "
                    "have as many; runs that are pooled have different train.seed."
                )


def _renumbered(table: pa.Table, start: int, whole: str) -> pa.Table:
    """Rows of agents whose numbers begin elsewhere, and who are no run's."""
    new: dict[str, pa.Array | pa.ChunkedArray] = {
        "agent": pa.compute.add(table["agent"], pa.scalar(start, table["agent"].type)),
        "seed": pa.repeat(pa.scalar(-1, table["seed"].type), len(table)),
        "config": pa.repeat(pa.scalar(whole, table["config"].type), len(table)),
    }
    for name, column in new.items():
        at = table.column_names.index(name)
        table = table.set_column(at, table.schema.field(at), column)
    return table.replace_schema_metadata(None)
