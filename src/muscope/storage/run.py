"""A run's directory: its training, beside what :mod:`muscope.storage.folder` lists.

config.json                    every setting, with a checksum
checkpoints/step-00000500.safetensors   parameters of all agents
state.safetensors              the full state to resume training from
diverged.safetensors           the state of a training that could not go on
metrics.jsonl                  training curves, one line per call
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from muscope.config import Config, differences, from_dict, is_steady, made_of, to_dict
from muscope.errors import ConfigError, RunError, nearest
from muscope.storage import json_file
from muscope.storage.block import BLOCKS, Block, Trained, blocks
from muscope.storage.checkpoint import write_atomically
from muscope.storage.folder import holds_nothing, is_lock

AnyRun = TypeVar("AnyRun", bound="Run")
PATIENCE = 10.0
"""Seconds to wait for another process that writes the config: tasks of an array begin at once."""
GROWING = ("agents", "block", "steps", "checkpoints")
"""Settings of training that say how far a run has grown."""


class Run(Trained):
    """Paths and config of one run.  Create with :meth:`create` or :meth:`open`.

    The paths of what training writes are its first block's.
    """

    def __init__(self, path: Path, config: Config):
        super().__init__(path)
        self.config = config

    @classmethod
    def create(cls: type[AnyRun], path: str | Path, config: Config) -> AnyRun:
        """A new run, not yet written, or the existing one if it has the same training settings.

        Settings that checkpoints do not depend on replace those of the existing run in memory
        only: its ``config.json`` keeps what it was made with.  More agents and further checkpoints
        than it has may be asked for, and more steps if nothing in training follows their number.

        Raises:
            RunError: the directory holds a run with other settings, or other files.

        """
        path = Path(path)
        file = path / "config.json"
        if file.exists():
            run = cls.open(path)
            _refuse_another(run, config)
            experiments = {**run.config.experiments, **config.experiments}
            train = dataclasses.replace(config.train, block=run.config.train.block_size)
            run.config = dataclasses.replace(
                config, preset=run.config.preset, experiments=experiments, train=train
            )
            return run
        if path.exists() and not holds_nothing(path):
            raise RunError(f"{path} exists and is not a muscope run; choose another --out.")
        train = dataclasses.replace(config.train, block=config.train.block_size)
        return cls(path, dataclasses.replace(config, train=train))

    @classmethod
    def open(cls: type[AnyRun], path: str | Path) -> AnyRun:
        """An existing run.

        Raises:
            RunError: there is none, or its config is damaged or cannot be used.

        """
        path = Path(path)
        file = path / "config.json"
        if not file.is_file():
            raise RunError(f"no run at {path}: it has no config.json.{_neighbours(path)}")
        try:
            return cls(path, from_dict(json_file.read(file)))
        except ConfigError as error:
            raise RunError(f"{file} cannot be used: {error}") from error

    def save_config(self) -> None:
        """Write ``config.json``; hold the lock if the run exists already."""
        write_atomically(self.path / "config.json", json_file.encoded(to_dict(self.config)))

    @contextlib.contextmanager
    def begin(self) -> Iterator[None]:
        """Hold the directory, made if it is not there, for training.

        Of a new run whose training fails before its first call is done, nothing stays: neither
        the config nor the directory.

        Raises:
            RunError: another process holds it.

        """
        made = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            new = self._write_down()
            try:
                yield
            except BaseException:
                if new and not any(block.metrics_path.exists() for block in self.blocks()):
                    self._discard(made)
                raise

    @contextlib.contextmanager
    def begin_part(self) -> Iterator[None]:
        """As :meth:`begin`, for a process that trains some blocks while others train the rest.

        The config stays if it fails: the others go by it.

        Raises:
            BusyError: another process is slow to write the config.

        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._write_down()
        yield

    def _write_down(self) -> bool:
        """Make ``config.json``, or note in it how far the run is to grow; whether it is new.

        What else was asked of an existing run is not what it was made with.
        """
        with self.lock("config", PATIENCE):
            if not (self.path / "config.json").exists():
                self.save_config()
                return True
            kept = type(self).open(self.path)
            train = self.config.train
            grown = dataclasses.replace(
                kept.config.train,
                **{name: getattr(train, name) for name in GROWING},
            )
            if grown != kept.config.train:
                kept.config = dataclasses.replace(kept.config, train=grown)
                kept.save_config()
            return False

    def unfinished(self, what: str) -> list[Path]:
        config = set(self.path.glob(".config.json.*.tmp"))
        if what == "config":
            return list(config)
        of_blocks = {path for block in self.blocks() for path in block.unfinished(what)}
        return [path for path in self.path.rglob(".*.tmp") if path not in config | of_blocks]

    def _discard(self, directory: bool) -> None:
        """Remove what the start of a training has written, and its directory if that made it."""
        checkpoints = [block.path / "checkpoints" for block in self.blocks()]
        folders = [*checkpoints, *(block.path for block in self.blocks()), self.path / BLOCKS]
        for path in (self.path / "config.json", *(p for at in checkpoints for p in at.glob("*"))):
            path.unlink(missing_ok=True)
        if directory:
            for path in filter(is_lock, self.path.rglob(".*")):
                path.unlink(missing_ok=True)
        inner = [folder for folder in folders if folder != self.path]
        for folder in [*inner, *([self.path] if directory else [])]:
            with contextlib.suppress(OSError):  # It was never made, or holds somebody's files.
                folder.rmdir()

    def blocks(self) -> tuple[Block, ...]:
        """Its blocks of agents, begun or to come.

        Raises:
            CheckpointError: what is there cannot be read.

        """
        return blocks(self.path, self.config.train.agents, self.config.train.block_size)

    def steps(self) -> tuple[int, ...]:
        """Training steps at which all agents have a checkpoint, sorted."""
        there = [set(block.steps()) for block in self.blocks()]
        return tuple(sorted(set.intersection(*there)))

    def missing_steps(self) -> tuple[int, ...]:
        """Steps of the schedule at which some agents have no checkpoint yet."""
        return tuple(s for s in self.config.train.schedule if s not in self.steps())


def _refuse_another(run: Run, config: Config) -> None:
    """Raise if a run is not the beginning of what a config asks for.

    Raises:
        RunError: it has other settings, or more than is asked for.

    """
    old, new = run.config.train, config.train
    different = differences(made_of(run.config), made_of(config))
    if different:
        hint = ""
        if old.steps != new.steps and not is_steady(config):
            hint = (
                " Learning rate, temperatures and importance exponent follow train.steps, so more "
                "steps would be another training; it can be prolonged only with "
                "optimiser.final_fraction 1, equal train.temperatures and "
                "replay.importance_exponent 1."
            )
        raise RunError(
            f"{run.path} holds a run with other settings: {'; '.join(different[:5])}. "
            f"Choose another --out, or repeat the run's own settings to resume it.{hint}"
        )
    if new.agents < old.agents or not set(old.schedule) <= {*new.schedule, *new.checkpoints}:
        raise RunError(
            f"{run.path} has {old.agents} agents and checkpoints {list(old.schedule)}; it can be "
            f"given more, not fewer. Choose another --out, or repeat the run's own settings."
        )
    if new.block not in (0, old.block_size):
        raise RunError(
            f"{run.path} has blocks of {old.block_size} agents; repeat --train.block "
            f"{old.block_size}."
        )


def _neighbours(path: Path) -> str:
    """A hint at runs beside a path that is none."""
    if not path.parent.is_dir():
        return " Train one with 'muscope train'."
    runs = [p.parent.name for p in path.parent.glob("*/config.json")]
    return nearest(path.name, runs) if runs else " Train one with 'muscope train'."
