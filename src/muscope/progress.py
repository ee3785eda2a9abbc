"""Progress on a terminal: rate and time left, silent anywhere else; and lines beside it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[tqdm]:
    """A bar on standard error; ``disable=None`` makes tqdm quiet when that is no terminal."""
    with tqdm(
        total=total,
        initial=done,
        desc=title,
        unit=unit,
        unit_scale=True,
        dynamic_ncols=True,
        disable=None,
        file=sys.stderr,
    ) as bar:
        yield bar


def say(line: str) -> None:
    """Print a line on standard error, above a bar if there is one; from any thread."""
    tqdm.write(f"muscope: {line}", file=sys.stderr)
    sys.stderr.flush()
