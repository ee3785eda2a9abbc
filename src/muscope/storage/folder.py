"""The directory of an examination: one place for everything that looking at agents writes.

cells/figure2/step-00000500-agent-000.parquet   finished pieces of an experiment
tables/figure2.parquet         tidy tables
figures/figure2.{png,svg}
film.gif                       an episode, and what the model believed of it
report.html

A run's directory (:mod:`muscope.storage.run`) has its training beside these.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from muscope.errors import RunError
from muscope.storage.checkpoint import is_leftover, naming


def holds_nothing(path: Path) -> bool:
    """Whether a directory has nothing in it but what a process that was killed leaves."""
    return path.is_dir() and all(p.name == ".lock" or is_leftover(p) for p in path.iterdir())


class Folder:
    """Paths in one directory, and the lock on it."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for writing.

        Raises:
            RunError: another process holds it.

        """
        # A lock of the operating system's: it ends with the process, however that ends.
        file = self.path / ".lock"
        with naming(file):
            try:
                held = FileLock(file, timeout=0).acquire()
            except Timeout as error:
                raise RunError(
                    f"{self.path} is in use by another process; wait for it or stop it."
                ) from error
        with held:
            for leftover in filter(is_leftover, self.path.rglob(".*.tmp")):
                leftover.unlink()
            yield

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def film_path(self) -> Path:
        return self.path / "film.gif"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    def cell_path(self, table: str, cell: str) -> Path:
        return self.path / "cells" / table / f"{cell}.parquet"

    def table_path(self, table: str) -> Path:
        return self.path / "tables" / f"{table}.parquet"

    def tables(self) -> tuple[str, ...]:
        """Names of the tables that are there, sorted."""
        return tuple(sorted(path.stem for path in self.path.glob("tables/*.parquet")))

    def figure_path(self, experiment: str, suffix: str) -> Path:
        return self.path / "figures" / f"{experiment}.{suffix}"
