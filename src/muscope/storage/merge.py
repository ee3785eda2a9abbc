"""Runs that were trained apart, such as the parts of a job array, as one."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from muscope.config import differences, made_of
from muscope.errors import RunError
from muscope.storage import checkpoint
from muscope.storage.block import Block, block_path
from muscope.storage.folder import holds_nothing
from muscope.storage.run import Run


def merge(runs: Sequence[Run], out: Path) -> None:
    """Copy finished blocks of agents, with the cells of their evaluation, into a new run.

    Args:
        runs: of equal training settings and seed, with different agents.
        out: the new run's directory; it appears whole or not at all.

    Raises:
        RunError: runs that do not belong together, agents that are missing or come twice, a block
            that is not finished, or ``out`` is not free.
        CheckpointError: a checkpoint is damaged.

    """
    if not runs:
        raise RunError("there is nothing to merge; name the runs.")
    if out.exists() and not holds_nothing(out):
        raise RunError(f"{out} exists; choose another --out.")
    for run in runs[1:]:
        different = differences(made_of(runs[0].config), made_of(run.config))
        if different:
            raise RunError(f"{runs[0].path} and {run.path} trained differently: {different[0]}.")
    found = _finished(runs)
    agents = found[-1][1].agents.stop
    config = runs[0].config
    train = dataclasses.replace(config.train, agents=agents)
    beside = out.with_name(f".{out.name}.{os.getpid()}.merging")
    try:
        beside.mkdir(parents=True)
        merged = Run(beside, dataclasses.replace(config, train=train))
        merged.save_config()
        for run, block in found:
            _copy(run, block, merged)
        if out.exists():  # Empty but for what killed processes left.
            shutil.rmtree(out)
        os.replace(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _finished(runs: Sequence[Run]) -> list[tuple[Run, Block]]:
    """All finished blocks, which must be agents 0 and up without a gap.

    Raises:
        RunError: they are not.

    """
    schedule = runs[0].config.train.schedule
    found = []
    for run in runs:
        begun = [block for block in run.blocks() if block.steps()]
        for block in begun:
            missing = block.missing_steps(schedule)
            if missing:
                raise RunError(
                    f"{block.path} has no checkpoint at step {missing[0]}; finish 'muscope train' "
                    "there first."
                )
        found += [(run, block) for block in begun]
    found.sort(key=lambda pair: pair[1].agents.start)
    expected = 0
    for run, block in found:
        if block.agents.start != expected:
            what = "comes twice" if block.agents.start < expected else "is in none of the runs"
            agent = min(block.agents.start, expected)
            raise RunError(
                f"agent {agent} {what} (at {run.path}); agents are told apart by their number: "
                "train the parts with one --train.agents and different --blocks."
            )
        expected = block.agents.stop
    if not found:
        raise RunError(f"{runs[0].path} has no finished block; train it first.")
    return found


def _copy(run: Run, block: Block, merged: Run) -> None:
    """One block's checkpoints and log, and its agents' cells."""
    place = block_path(merged.path, block.agents)
    for path in sorted(block.path.glob("checkpoints/*.safetensors")):
        checkpoint.read_header(path, checkpoint.AGENTS_FORMAT)  # Damage must not spread.
        _copied(path, place / "checkpoints" / path.name)
    if block.metrics_path.exists():
        _copied(block.metrics_path, place / block.metrics_path.name)
    for path in sorted(run.path.glob("cells/*/step-*-agent-*.parquet")):
        if int(path.stem.rpartition("-")[2]) in block.agents:
            _copied(path, merged.path / path.relative_to(run.path))


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
