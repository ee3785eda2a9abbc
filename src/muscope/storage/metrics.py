"""The training log ``metrics.jsonl``: one line of JSON per call, each with its own checksum.

A line that a killed process tore, or that is damaged, stops nobody: it is left out and counted.
Lines of older runs have no checksum and are taken as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from muscope.storage.checkpoint import naming, write_atomically
from muscope.storage.json_file import CHECKSUM, checksum


class Log(NamedTuple):
    """What could be read."""

    entries: list[dict[str, Any]]
    """In the file's order, each with at least ``rounds``, ``step`` and ``seconds``."""
    damaged: int
    """Lines that are left out."""


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Write one more line."""
    line = json.dumps({**entry, CHECKSUM: checksum(entry)})
    with naming(path), open(path, "ab") as file:
        file.write(line.encode() + b"\n")


def read(path: Path) -> Log:
    """All lines; none if there is no file."""
    lines = list(_lines(path))
    entries = [entry for _, entry in lines if entry is not None]
    return Log(entries, len(lines) - len(entries))


def truncate(path: Path, rounds: int) -> int:
    """Drop the lines written after the first ``rounds`` rounds, and torn or damaged ones.

    Returns:
        How many were torn or damaged.

    """
    lines = list(_lines(path))
    kept = [line for line, entry in lines if entry is not None and entry["rounds"] <= rounds]
    if lines:
        write_atomically(path, b"".join(line + b"\n" for line in kept))
    return sum(entry is None for _, entry in lines)


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Each line with its content, None if it is torn or damaged."""
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        if line:
            yield line, _entry(line)


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line.decode())
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    # An older line has numbers only: one with a string has lost its checksum's name.
    has_checksum = any(isinstance(value, str) for value in entry.values())
    if has_checksum and entry.pop(CHECKSUM, "") != checksum(entry):
        return None
    wanted = (entry.get("rounds"), entry.get("step"), entry.get("seconds"))
    return entry if all(isinstance(value, int | float) for value in wanted) else None
