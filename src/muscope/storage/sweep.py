"""The folder of a sweep: runs of variants of one config, side by side.

sweep.json                     what was asked: the variants' names and changes
base/                          the run of the config itself
loss.gradient_scale=1.0/       a variant's run
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muscope.errors import RunError
from muscope.storage import json_file
from muscope.storage.checkpoint import write_atomically
from muscope.storage.folder import Folder

FILE = "sweep.json"


class SweepFolder(Folder):
    """Paths in a sweep's folder, and the lock on it."""

    @property
    def file(self) -> Path:
        return self.path / FILE

    def unfinished(self, what: str) -> list[Path]:
        return list(self.path.glob(".*.tmp"))  # Deeper ones are the runs' own.

    def variants(self) -> dict[str, dict[str, Any]]:
        """The changes of all variants that were asked for, by name, the base first.

        Raises:
            RunError: there is no sweep, or its file is damaged.

        """
        if not self.file.is_file():
            raise RunError(f"{self.path} is no sweep: it has no {FILE}.")
        try:
            return dict(json_file.read(self.file)["variants"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{self.file} names no variants: damaged; restore it.") from error

    def write_down(self, asked: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what is asked for, beside what was asked before; the lock must be held."""
        before = self.variants() if self.file.is_file() else {}
        write_atomically(self.file, json_file.encoded({"variants": {**before, **asked}}))

    def run_path(self, variant: str) -> Path:
        """The directory of a variant's run."""
        return self.path / variant
