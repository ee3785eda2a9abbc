"""Training curves for TensorBoard: ``metrics.jsonl`` as event files, once or as training goes on.

A directory per agent, so that TensorBoard shows agents as runs of their own.  Training knows
nothing of it, so it works on any run: one that is finished, one that trains on a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from muscope.errors import ConfigError, RunError
from muscope.progress import say
from muscope.storage import metrics
from muscope.storage.run import Run

LOSSES = ("policy_loss", "value_loss", "reward_loss", "gradient_norm")
"""Sums over the updates of a call, shown as means."""


class Scalars(NamedTuple):
    """What one line of the log says of one agent."""

    step: int
    at: float
    """Seconds since training began, without those between an interruption and the resuming."""
    values: Mapping[str, float]
    """By TensorBoard's tag."""


def scalars(entry: Mapping[str, Any], agent: int) -> Scalars:
    """Means over the updates of a call and over its games; nothing of what it had none of.

    Args:
        entry: a line of the log.
        agent: its place in the line's lists.

    """
    updates, episodes = entry["updates"][agent], entry["episodes"][agent]
    values: dict[str, float] = {}
    if updates:
        means = {name: entry[name][agent] / updates for name in LOSSES}
        means |= {f"term_{n}": of[agent] / updates for n, of in entry.get("terms", {}).items()}
        values |= {f"training/{name}": mean for name, mean in means.items()}
    if episodes:
        values["games/score"] = entry["score"][agent] / episodes
        values["games/ended"] = episodes
    return Scalars(entry["step"], entry["seconds"], values)


def write(run: Run, out: Path, follow: float | None = None) -> Path:
    """Write a run's training curves to event files.

    Args:
        run: any, finished or not.
        out: a directory of its own, which is replaced.
        follow: seconds between looks at a run that trains on; it ends when the run is trained.
            None to write what is there and end.

    Raises:
        ConfigError: tensorboardX is not installed, or ``out`` holds something else.
        RunError: there is no log to write, and nobody waits for one.

    """
    writer = _writer()
    boards = [_Board(block.metrics_path, block.agents, out, writer) for block in run.blocks()]
    if follow is None and not any(board.log.exists() for board in boards):
        raise RunError(f"{run.path} has no training log yet; 'muscope train' writes one.")
    _make_room(out)
    damaged = sum(metrics.read(board.log).damaged for board in boards)
    if damaged:
        say(f"{run.path}: {damaged} torn or damaged line(s) of metrics.jsonl are left out.")
    if follow is not None:
        say(f"{out} follows {run.path} until it is trained; Ctrl-C stops that.")
    try:
        while True:
            trained = not run.missing_steps()
            for board in boards:
                board.go_on()
            if follow is None or trained:
                return out
            time.sleep(follow)
    finally:
        for board in boards:
            board.close()


def _writer() -> Callable[[Path], Any]:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "TensorBoard's files need tensorboardX: pip install 'muscope[tensorboard]'."
        ) from error
    # What TensorBoard has read of former files, or of lines since taken back, it forgets.
    return lambda path: SummaryWriter(str(path), purge_step=0, max_queue=1000, flush_secs=1)


def _make_room(out: Path) -> None:
    """Delete what was written here before.

    Raises:
        ConfigError: there is anything else.

    """
    ours = [*out.glob("agent-[0-9][0-9][0-9][0-9]/events.out.tfevents.*")]
    folders = {path.parent for path in ours}
    if out.is_file() or {*out.rglob("*")} - {*ours, *folders}:
        raise ConfigError(f"{out} holds more than a run's training curves; choose another --out.")
    for path in ours:
        path.unlink()
    for folder in folders:
        folder.rmdir()


class _Board:
    """A block's log and its agents' event files."""

    def __init__(self, log: Path, agents: range, out: Path, writer: Callable[[Path], Any]):
        self.log, self.agents, self.out, self.writer = log, agents, out, writer
        self.writers: list[Any] = []
        self.rounds, self.began = 0, 0.0
        """Written so far, and when training began, as far as the log tells."""

    def go_on(self) -> None:
        """Write the lines that are new; what a resumed run has taken back is purged."""
        entries = metrics.read(self.log).entries
        if not entries:
            return
        if entries[-1]["rounds"] < self.rounds:
            self.close()
            self.rounds = 0
        if not self.writers:
            self.began = self.log.stat().st_mtime - entries[-1]["seconds"]
            names = [self.out / f"agent-{agent:04d}" for agent in self.agents]
            self.writers = [self.writer(name) for name in names]
        new = [entry for entry in entries if entry["rounds"] > self.rounds]
        for entry in new:
            for place, writer in enumerate(self.writers):
                step, at, values = scalars(entry, place)
                for tag, value in values.items():
                    writer.add_scalar(tag, value, step, walltime=self.began + at)
            self.rounds = entry["rounds"]
        for writer in self.writers:
            writer.flush()

    def close(self) -> None:
        """Close the files."""
        for writer in self.writers:
            writer.close()
        self.writers = []
