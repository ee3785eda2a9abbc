"""Tidy tables in Parquet: one file per figure, the settings in every row."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import muscope
from muscope.config import Config, to_dict
from muscope.errors import RunError
from muscope.storage.checkpoint import write_atomically

SETTINGS: dict[str, pa.DataType] = {
    "environment": pa.string(),
    "preset": pa.string(),
    "seed": pa.int64(),
    "discount": pa.float64(),
    "simulations": pa.int64(),
    "evaluate_seed": pa.int64(),
    "muscope": pa.string(),
    "config": pa.string(),
}
"""Columns that every table ends with, unless it has one of that name itself; ``config`` is
the run's whole config as JSON."""


def settings(config: Config) -> dict[str, Any]:
    """The values of :data:`SETTINGS` for one run."""
    return {
        "environment": config.environment.name,
        "preset": config.preset,
        "seed": config.train.seed,
        "discount": config.environment.discount,
        "simulations": config.search.simulations,
        "evaluate_seed": config.evaluate.seed,
        "muscope": muscope.__version__,
        "config": json.dumps(to_dict(config), sort_keys=True),
    }


def make(
    schema: Mapping[str, pa.DataType], columns: Mapping[str, Sequence | np.ndarray], config: Config
) -> pa.Table:
    """A table of the schema's columns followed by the run's settings.

    Args:
        schema: the figure's own columns.
        columns: one sequence per column, all of one length.
        config: the run's config.

    """
    length = len(next(iter(columns.values())))
    types = {name: kind for name, kind in SETTINGS.items() if name not in schema}
    values = settings(config)
    fixed = {name: pa.repeat(pa.scalar(values[name], types[name]), length) for name in types}
    return pa.table({**columns, **fixed}, schema=pa.schema([*schema.items(), *types.items()]))


def write(path: Path, table: pa.Table, mark: str) -> None:
    """Write a table atomically, with ``mark`` (what its rows depend on) in the file's schema."""
    table = table.replace_schema_metadata({"mark": mark})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def read(path: Path) -> pa.Table:
    """A table.

    Raises:
        RunError: the file is missing or damaged.

    """
    if not path.is_file():
        raise RunError(f"no table at {path}; run 'muscope evaluate' on the run first.")
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise RunError(f"{path} is damaged ({error}); delete it and evaluate again.") from error


def mark(path: Path) -> str | None:
    """The mark of a table, or None if it is missing or damaged."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (FileNotFoundError, pa.ArrowInvalid, OSError):
        return None
    return metadata.get(b"mark", b"").decode() or None
