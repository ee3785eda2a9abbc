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
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from muscope.config import Config, differences, from_dict, to_dict, training_dict
from muscope.errors import ConfigError, RunError, nearest
from muscope.storage import json_file
from muscope.storage.checkpoint import write_atomically
from muscope.storage.folder import Folder, holds_nothing

AnyRun = TypeVar("AnyRun", bound="Run")


class Run(Folder):
    """Paths and config of one run.  Create with :meth:`create` or :meth:`open`."""

    def __init__(self, path: Path, config: Config):
        super().__init__(path)
        self.config = config

    @classmethod
    def create(cls: type[AnyRun], path: str | Path, config: Config) -> AnyRun:
        """A new run, not yet written, or the existing one if it has the same training settings.

        Settings that checkpoints do not depend on replace those of the existing run in memory
        only: its ``config.json`` keeps what it was made with.

        Raises:
            RunError: the directory holds a run with other settings, or other files.

        """
        path = Path(path)
        file = path / "config.json"
        if file.exists():
            run = cls.open(path)
            different = differences(training_dict(run.config), training_dict(config))
            if different:
                raise RunError(
                    f"{path} holds a run with other settings: {'; '.join(different[:5])}. "
                    "Choose another --out, or repeat the run's own settings to resume it."
                )
            experiments = {**run.config.experiments, **config.experiments}
            run.config = dataclasses.replace(
                config, preset=run.config.preset, experiments=experiments
            )
            return run
        if path.exists() and not holds_nothing(path):
            raise RunError(f"{path} exists and is not a muscope run; choose another --out.")
        return cls(path, config)

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

    @property
    def state_path(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def diverged_path(self) -> Path:
        return self.path / "diverged.safetensors"

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
            new = not (self.path / "config.json").exists()
            if new:  # What was asked of an existing run is not what it was made with.
                self.save_config()
            try:
                yield
            except BaseException:
                if new and not self.metrics_path.exists():
                    self._discard(made)
                raise

    def _discard(self, directory: bool) -> None:
        """Remove what the start of a training has written, and its directory if that made it."""
        for path in (self.path / "config.json", *map(self.checkpoint_path, self.steps())):
            path.unlink(missing_ok=True)
        if directory:
            (self.path / ".lock").unlink(missing_ok=True)
        for folder in (self.path / "checkpoints", *([self.path] if directory else [])):
            with contextlib.suppress(OSError):  # It was never made, or holds somebody's files.
                folder.rmdir()

    def checkpoint_path(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:08d}.safetensors"

    def steps(self) -> tuple[int, ...]:
        """Training steps that have a checkpoint, sorted."""
        names = (
            re.fullmatch(r"step-(\d+)", p.stem) for p in self.path.glob("checkpoints/*.safetensors")
        )
        return tuple(sorted(int(match[1]) for match in names if match))

    def missing_steps(self) -> tuple[int, ...]:
        """Steps of the schedule that have no checkpoint yet."""
        return tuple(s for s in self.config.train.schedule if s not in self.steps())


def _neighbours(path: Path) -> str:
    """A hint at runs beside a path that is none."""
    if not path.parent.is_dir():
        return " Train one with 'muscope train'."
    runs = [p.parent.name for p in path.parent.glob("*/config.json")]
    return nearest(path.name, runs) if runs else " Train one with 'muscope train'."
