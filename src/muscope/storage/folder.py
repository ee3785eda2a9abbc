"""The directory of an examination: one place for everything that looking at agents writes.

cells/figure2/step-00000500-agent-000.parquet   finished pieces of an experiment
tables/figure2.parquet         tidy tables
figures/figure2.{png,svg,pdf}
film.gif                       an episode, and what the model believed of it
look/*.html                    single states, looked at closely
report.html

A run's directory (:mod:`muscope.storage.run`) has its training beside these.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout

from muscope.errors import BusyError
from muscope.storage import tables
from muscope.storage.checkpoint import is_leftover, naming

EXAMINATION = "examination.json"
"""The file that makes a folder an examination: who was examined, and with which settings."""


def holds_nothing(path: Path) -> bool:
    """Whether a directory has nothing in it but what a process that was killed leaves."""
    return path.is_dir() and all(is_lock(p) or is_leftover(p) for p in path.iterdir())


def is_lock(path: Path) -> bool:
    """Whether a file is one that a lock is held on; it stays when the lock is let go."""
    return path.name.startswith(".") and path.name.endswith("lock")


class Folder:
    """Paths in one directory, and the lock on it."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @contextlib.contextmanager
    def lock(self, what: str = "", patience: float = 0.0) -> Iterator[None]:
        """Hold the directory for writing, and clear away what killed writers have left.

        Args:
            what: a part of it, which is held apart from the rest.
            patience: seconds to wait for another process.

        Raises:
            BusyError: another process holds it.

        """
        # A lock of the operating system's: it ends with the process, however that ends.
        file = self.path / f".{what}{'.' * bool(what)}lock"
        with naming(file):
            try:
                held = FileLock(file, timeout=patience).acquire()
            except Timeout as error:
                raise BusyError(
                    f"{self.path} is in use by another process; wait for it or stop it."
                ) from error
        with held:
            for leftover in filter(is_leftover, self.unfinished(what)):
                leftover.unlink(missing_ok=True)
            yield

    def unfinished(self, what: str) -> list[Path]:
        """Unfinished writes of what is held by :meth:`lock`, and of nothing else: another process
        may be writing the rest.
        """
        return list(self.path.rglob(".*.tmp"))

    @property
    def look_path(self) -> Path:
        """Of pages about single states."""
        return self.path / "look"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def film_path(self) -> Path:
        return self.path / "film.gif"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    def metrics_paths(self) -> tuple[Path, ...]:
        """The training logs of all blocks that are there."""
        further = sorted(self.path.glob("blocks/*/metrics.jsonl"))
        return tuple(path for path in (self.metrics_path, *further) if path.exists())

    def cell_path(self, table: str, cell: str) -> Path:
        return self.path / "cells" / table / f"{cell}.parquet"

    def table_path(self, table: str) -> Path:
        return self.path / "tables" / f"{table}.parquet"

    def table(self, name: str) -> pa.Table:
        """A table, its content checked.

        Raises:
            RunError: it is missing or damaged.

        """
        return tables.read(self.table_path(name))

    def tables(self) -> tuple[str, ...]:
        """Names of the tables that are there, sorted."""
        return tuple(sorted(path.stem for path in self.path.glob("tables/*.parquet")))

    def figure_path(self, experiment: str, suffix: str) -> Path:
        return self.path / "figures" / f"{experiment}.{suffix}"
