"""Tidy tables in Parquet: the settings in every row, what made it in the file's metadata."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from muscope.errors import RunError
from muscope.storage import provenance
from muscope.storage.checkpoint import write_atomically
from muscope.storage.schema import Column, Schema, integer, number, text

SETTINGS: tuple[Column, ...] = (
    text("environment", "the environment's name"),
    text("preset", "the preset of a run's settings, or the subject's name"),
    integer("seed", "of the run's training; -1 for a subject that muscope did not train"),
    number("discount", "gamma"),
    integer("simulations", "N of the agent's own search"),
    integer("evaluate_seed", "of the evaluation's randomness"),
    text("muscope", "version that made the row"),
    text("config", "all settings, as JSON"),
)
"""Columns that every table ends with, unless it has one of that name itself."""


def make(
    schema: Schema, columns: Mapping[str, Sequence | np.ndarray], settings: Mapping[str, Any]
) -> pa.Table:
    """A table of the schema's columns followed by the settings'.

    Args:
        schema: the table's own columns.
        columns: one sequence per column, all of one length.
        settings: a value for each of :data:`SETTINGS`.

    """
    length = len(next(iter(columns.values())))
    fixed = [column for column in SETTINGS if column.name not in schema.names]
    values = {c.name: pa.repeat(pa.scalar(settings[c.name], c.type), length) for c in fixed}
    fields = [*schema.arrow(), *(column.field() for column in fixed)]
    own = {name: columns[name] for name in schema.names}
    return pa.table({**own, **values}, schema=pa.schema(fields))


def write(path: Path, table: pa.Table, about: Mapping[str, str]) -> None:
    """Write a table atomically.

    Args:
        path: the file to replace.
        table: its rows.
        about: goes into the file's metadata, beside :func:`muscope.storage.provenance`; ``mark``
            says what the rows depend on.

    """
    metadata = {**about, "made_by": provenance.as_json()}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def read(path: Path) -> pa.Table:
    """A table.

    Raises:
        RunError: the file is missing or damaged.

    """
    if not path.is_file():
        raise RunError(f"no table at {path}; 'muscope evaluate' or 'muscope examine' makes it.")
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise RunError(f"{path} is damaged ({error}); delete it and evaluate again.") from error


def about(path: Path) -> dict[str, str]:
    """The file's own metadata; empty if it is missing or damaged."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (FileNotFoundError, pa.ArrowInvalid, OSError):
        return {}
    return {
        key.decode(): value.decode()
        for key, value in metadata.items()
        if not key.startswith(b"ARROW")
    }


def settings_of(table: pa.Table) -> dict[str, Any]:
    """The settings that :func:`make` gave a table's rows, from the first."""
    return {column.name: table[column.name][0].as_py() for column in SETTINGS}
