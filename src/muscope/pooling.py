"""Runs whose tables are left, as one: thirty agents from three runs of ten."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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
SEEDS = "seeds"
"""What a pooled table's file calls the seeds of its runs."""


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
    common = _common(folders)
    pooled = {name: joined(folders, name) for name in common}
    _say_what_is_shared(folders, common[0])
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


def _say_what_is_shared(folders: Sequence[Folder], name: str) -> None:
    """Agents that are taken for independent were examined with the same random numbers."""
    looks = [tables.settings_of(folder.table(name))["evaluate_seed"] for folder in folders]
    if len({*looks}) < len(looks):
        say(
            f"evaluate.seed is {', '.join(map(str, looks))}: agents of equal number share the "
            "random numbers that they were examined with; intervals take them as independent."
        )


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
    seeds = [_seeds(*each) for each in zip(wholes, said, strict=True)]
    _refuse_equal(folders, seeds, said)
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
    said_by_any = {key: value for about in reversed(said) for key, value in about.items()}
    about = {
        **said_by_any,
        "agents": str(sum(origin.agents for origin in origins)),
        "diverged": json.dumps(diverged),
        "clipped": json.dumps(clipped),
        "devices": " and ".join(sorted({about.get("devices", "") for about in said} - {""})),
        "mark": "\n".join(about["mark"] for about in said if "mark" in about),
        SEEDS: json.dumps([*itertools.chain(*seeds)]),
    }
    return pa.concat_tables(parts).replace_schema_metadata(about)


def _of_kind(whole: Mapping[str, Any]) -> dict[str, Any]:
    """All settings but those that are a run's own."""
    kept = dict(whole)
    for section, own in OF_A_RUN.items():
        if section in kept:
            kept[section] = {k: v for k, v in kept[section].items() if k not in own}
    return kept


def _seeds(whole: Mapping[str, Any], about: Mapping[str, str]) -> list[int]:
    """Those that a table's agents were trained with; none if muscope did not train them."""
    if SEEDS in about:
        return json.loads(about[SEEDS])
    return [whole["train"]["seed"]] if "train" in whole else []


def _refuse_equal(
    folders: Sequence[Folder], seeds: Sequence[list[int]], said: Sequence[Mapping[str, str]]
) -> None:
    """Raise if two have agents in common: of one seed, or with equal checkpoints."""
    marks = [{*about.get("mark", "").splitlines()} for about in said]
    for i, j in itertools.combinations(range(len(folders)), 2):
        if {*seeds[i]} & {*seeds[j]} or marks[i] & marks[j]:
            raise RunError(
                f"{folders[i].path} and {folders[j].path} have agents in common; runs that are "
                "pooled have different train.seed."
            )


def _renumbered(table: pa.Table, start: int, whole: str) -> pa.Table:
    """Rows of agents whose numbers begin elsewhere, and who are no run's."""
    new: dict[str, pa.Array | pa.ChunkedArray] = {
        "agent": pc.add(table["agent"], pa.scalar(start, table["agent"].type)),
        "seed": pa.repeat(pa.scalar(-1, table["seed"].type), len(table)),
        "config": pa.repeat(pa.scalar(whole, table["config"].type), len(table)),
    }
    for name, column in new.items():
        at = table.column_names.index(name)
        table = table.set_column(at, table.schema.field(at), column)
    return table.replace_schema_metadata(None)
