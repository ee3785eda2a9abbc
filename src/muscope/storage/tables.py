"""Tidy tables in Parquet: the settings in every row, what made it in the file's metadata.

There is also a digest of the content, against which every :func:`read` checks it.  Files of older
versions have none and are taken as they are.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from muscope.errors import RunError
from muscope.storage import content, provenance
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
        about: goes into the file's metadata, beside :func:`muscope.storage.provenance` and the
            content's digest; ``mark`` says what the rows depend on.

    """
    made_by = json.dumps({**provenance.provenance(), **content.FORMAT}, sort_keys=True)
    metadata = {**about, content.MADE_BY: made_by}
    table = table.replace_schema_metadata({content.MADE_BY: "{}"})
    if not all(content.is_simple(field.type) for field in table.schema):
        table = _decoded(_encoded(table))  # Parquet has its own ideas of some types.
    metadata[content.DIGEST] = content.digest(table.replace_schema_metadata(metadata))
    write_atomically(path, _encoded(table.replace_schema_metadata(metadata)))


def copy(path: Path, to: Path, bits: int | None = None) -> None:
    """Write a table anew elsewhere, with all that it says of itself.

    Args:
        path: the table.
        to: the file to replace.
        bits: binary digits that its floating-point numbers are rounded to, so that it takes less
            room; None keeps every bit.

    Raises:
        RunError: the table is missing or damaged.

    """
    table = read(path)
    if bits is not None:
        about = {**metadata(table.schema), "rounded_to_bits": str(bits)}
        table = _rounded(table, bits).replace_schema_metadata(about)
        about[content.DIGEST] = content.digest(table)
        table = table.replace_schema_metadata(about)
    write_atomically(to, _encoded(table))


def _rounded(table: pa.Table, bits: int) -> pa.Table:
    for i, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            fraction, exponent = np.frexp(table.column(i).to_numpy())
            kept = np.ldexp(np.round(np.ldexp(fraction, bits)), exponent - bits)
            nulls = table.column(i).is_null().combine_chunks().to_numpy(zero_copy_only=False)
            values = pa.array(kept.astype(field.type.to_pandas_dtype()), field.type, mask=nulls)
            table = table.set_column(i, field, values)
    return table


def _encoded(table: pa.Table) -> bytes:
    """A file's bytes; floating-point numbers byte by byte, which packs them a third better."""
    buffer = io.BytesIO()
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    others = [field.name for field in table.schema if field.name not in floats]
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=others,
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
    )
    return buffer.getvalue()


def _decoded(data: bytes) -> pa.Table:
    """A file's table, its content checked.

    Raises:
        ValueError: it is not what its digest says; pyarrow may raise anything for damaged data.

    """
    plain = pq.ParquetFile(pa.BufferReader(data))
    schema = plain.schema_arrow
    # As dictionaries, because every row repeats the settings: both reading and digest are fast.
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    file = pq.ParquetFile(pa.BufferReader(data), metadata=plain.metadata, read_dictionary=texts)
    table = file.read()
    if not content.is_as_written(table):
        raise ValueError(
            "it does not match its own digest, has lost it, or an early version made it without"
        )
    types = [schema.field(name).type for name in table.column_names]
    fields = [field.with_type(type_) for field, type_ in zip(table.schema, types, strict=True)]
    return table.cast(pa.schema(fields, table.schema.metadata))


def read(path: Path) -> pa.Table:
    """A table, its content checked.

    Raises:
        RunError: the file is missing, cannot be read or is damaged.

    """
    if not path.is_file():
        raise RunError(f"no table at {path}; 'muscope evaluate' or 'muscope examine' makes it.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); mend that first.") from error
    try:
        return _decoded(data)
    except Exception as error:  # Of no common kind: what decoders meet in damaged data varies.
        raise RunError(
            f"{path} is damaged ({error}); delete it, and 'muscope evaluate' or 'muscope examine' "
            "makes it anew."
        ) from error


def metadata(schema: pa.Schema) -> dict[str, str]:
    """What a table's file says of it, the digest left out."""
    return {
        key.decode(): value.decode()
        for key, value in (schema.metadata or {}).items()
        if not key.startswith(b"ARROW") and key != content.DIGEST.encode()
    }


def about(path: Path) -> dict[str, str]:
    """A file's metadata; empty if it is missing or they cannot be read.

    Neither they nor the rows are checked: good to tell what is current, not to show.
    """
    try:
        return metadata(pq.read_schema(path))
    except Exception:  # As in :func:`read`; what cannot be read is not current.
        return {}


def told(path: Path) -> dict[str, str]:
    """A file's metadata, checked with all that is in it.

    Raises:
        RunError: the file is missing or damaged.

    """
    return metadata(read(path).schema)


def checked(path: Path) -> dict[str, str]:
    """The same; empty if the file is missing or damaged."""
    try:
        return told(path)
    except RunError:
        return {}


class Origin(NamedTuple):
    """What an experiment's table says of itself."""

    agents: int
    training_steps: int
    made_by: dict[str, str]
    """See :func:`muscope.storage.provenance.provenance`."""


def origin(path: Path) -> Origin:
    """Whom a table is about and what made it.

    Raises:
        RunError: the file is missing or damaged, or does not say so.

    """
    said = told(path)
    try:
        made_by = json.loads(said[content.MADE_BY])
        return Origin(int(said["agents"]), int(said["training_steps"]), made_by)
    except (KeyError, ValueError) as error:
        raise RunError(
            f"{path} does not say what it is about ({error}); delete it, and 'muscope evaluate' or "
            "'muscope examine' makes it anew."
        ) from error


def settings_of(table: pa.Table) -> dict[str, Any]:
    """The settings that :func:`make` gave a table's rows, from the first."""
    return {column.name: table[column.name][0].as_py() for column in SETTINGS}
