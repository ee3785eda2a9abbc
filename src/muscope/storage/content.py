"""A digest of a table's logical content: what it says, not how a file or pyarrow lays it out.

Of the file's metadata, and of every column its name, type, metadata, values and nulls.  Chunks,
compression and whether strings are kept in a dictionary do not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

DIGEST = "digest"
"""The entry of a table's metadata that holds the digest, and is not part of it."""
MADE_BY = "made_by"
"""The entry of JSON that every table has."""
FORMAT = {"format": "muscope-table-1"}
"""In it: of tables that must have a digest."""
_TECHNICAL = (b"ARROW:schema", b"PARQUET:field_id")  # What the file format adds for itself.


def is_as_written(table: pa.Table) -> bool:
    """Whether a table is what its digest says.

    Older versions' tables have none.  One that says nothing of what made it, or that it was made
    with a digest, has lost it.

    Raises:
        ValueError: what made it is no JSON.

    """
    about = table.schema.metadata or {}
    if DIGEST.encode() in about:
        return about[DIGEST.encode()] == digest(table).encode()
    return not {*FORMAT} & {*json.loads(about.get(MADE_BY.encode(), json.dumps(FORMAT)))}


def digest(table: pa.Table) -> str:
    """SHA-256 of a table's content, in hexadecimal digits."""
    total = hashlib.sha256()
    for part in _table(table):
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def _table(table: pa.Table) -> Iterator[bytes]:
    about = dict(table.schema.metadata or {})
    about.pop(DIGEST.encode(), None)
    yield b"%d rows" % table.num_rows
    yield from _metadata(about)
    for field, column in zip(table.schema, table.columns, strict=True):
        yield field.name.encode()
        yield f"{kind(field.type)} {'null' if field.nullable else 'not null'}".encode()
        yield from _metadata(field.metadata or {})
        yield from _values(column)


def _metadata(about: Mapping[bytes, bytes]) -> Iterable[bytes]:
    kept = sorted(item for item in about.items() if item[0] not in _TECHNICAL)
    yield b"%d entries" % len(kept)
    for name, value in kept:
        yield name
        yield value


def is_simple(type_: pa.DataType) -> bool:
    """Whether Parquet gives a column of this type back as it was: numbers, truth, strings."""
    simple = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_string)
    return any(test(type_) for test in simple) or type_ in (pa.float32(), pa.float64())


def kind(type_: pa.DataType) -> str:
    """A type's name; of nested ones without the inner names that Parquet makes up."""
    if pa.types.is_dictionary(type_):
        return kind(type_.value_type)
    if not pa.types.is_nested(type_):
        return str(type_)
    inner = [type_.field(i) for i in range(type_.num_fields)]
    named = pa.types.is_struct(type_)
    parts = (f"{part.name if named else ''}:{kind(part.type)}" for part in inner)
    return f"{type(type_).__name__}[{','.join(parts)}]"


def _values(column: pa.ChunkedArray) -> Iterator[bytes]:
    type_ = column.type
    if pa.types.is_dictionary(type_) and not _is_text(type_.value_type):
        column, type_ = column.cast(type_.value_type), type_.value_type
    if pa.types.is_dictionary(type_) or _is_text(type_):
        yield from _texts(column)
    elif pa.types.is_boolean(type_):
        yield from _numbers(column.combine_chunks().cast(pa.uint8()))
    elif is_simple(type_):
        yield from _numbers(column.combine_chunks())
    elif pa.types.is_temporal(type_) and type_.bit_width in (32, 64):
        yield from _numbers(column.combine_chunks().view(f"int{type_.bit_width}"))
    else:
        yield repr(column.to_pylist()).encode()


def _is_text(type_: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return any(test(type_) for test in tests)


def _numbers(array: pa.Array) -> Iterator[bytes]:
    """Where nulls are, if anywhere, and all values with zeros there, least byte first."""
    yield np.packbits(_numpy(array.is_null())).tobytes() if array.null_count else b""
    values = _numpy(array.fill_null(0) if array.null_count else array)
    yield values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _texts(column: pa.ChunkedArray) -> Iterator[bytes]:
    """The different strings in the order in which they come, and which of them each row has.

    A string of kilobytes that all rows repeat is digested once.
    """
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    there = _numpy(array.is_valid())
    places = _numpy(array.indices.drop_null())
    used, first, which = np.unique(places, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rows = np.full(len(array), -1, "<i8")
    rows[there] = np.argsort(order)[which]
    for text in array.dictionary.take(pa.array(used[order], pa.int64())).to_pylist():
        yield text.encode() if isinstance(text, str) else text
    yield rows.tobytes()


def _numpy(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False)
