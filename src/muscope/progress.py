"""Progress: a bar on a terminal, a line now and then anywhere else; and lines beside it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

SECONDS = 60.0
"""Between two lines where there is no terminal, and before the first."""
LINE = "muscope: {desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} gone, {remaining} left{postfix}"


class _Lines:
    """Standard error, to which a bar's pictures of itself go as lines."""

    def write(self, picture: str) -> None:
        text = picture.strip()
        if text:
            sys.stderr.write(f"{text}\n")

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[tqdm]:
    """A bar on standard error, with the rate and the time left; lines in a log."""
    shown: dict[str, Any] = {"file": sys.stderr, "dynamic_ncols": True}
    if not sys.stderr.isatty():
        often = {"mininterval": SECONDS, "delay": SECONDS}
        shown = {"file": _Lines(), "bar_format": LINE, "ncols": 10_000, **often}
    with tqdm(total=total, initial=done, desc=title, unit=unit, unit_scale=True, **shown) as bar:
        yield bar


def say(line: str) -> None:
    """Print a line on standard error, above a bar if there is one; from any thread."""
    tqdm.write(f"muscope: {line}", file=sys.stderr)
    sys.stderr.flush()
