"""What a page carries in itself: tables, and the program that draws them.

Tables go into a page whole, so that a chart, a number under the pointer and a downloaded file are
the table's own numbers.  Columns are stored one after the other, compressed, and unpacked in the
browser; only ``config``, all settings as text in every row, is left out.
"""

from __future__ import annotations

import base64
import functools
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import vl_convert

LEFT_OUT = ("config",)
"""Columns that are not in a page's tables: all settings stand in the page once."""


def packed(data: bytes) -> str:
    """Bytes as a browser unpacks them: zlib's format, in base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def table(rows: pa.Table) -> dict[str, Any]:
    """A table for a page, as JSON.

    Numbers are of a kind (int32, float32, float64) that holds every one of a column exactly; null
    and NaN are both NaN there.  Everything else is text: the different values, and a code per row.
    Bytes are grouped by their place in a number, which compresses better.

    Args:
        rows: of texts, truth values, floats, and integers below 2^53.

    """
    columns, parts = [], []
    for name in rows.column_names:
        if name in LEFT_OUT:
            continue
        about, numbers = _column(rows[name])
        columns.append({"name": name, **about})
        by_place = np.ascontiguousarray(numbers).view(np.uint8).reshape(len(numbers), -1).T
        parts.append(by_place.tobytes())
    return {"rows": rows.num_rows, "columns": columns, "data": packed(b"".join(parts))}


def _column(column: pa.ChunkedArray) -> tuple[dict[str, Any], np.ndarray]:
    if pa.types.is_floating(column.type):
        numbers = column.to_numpy().astype(np.float64)
        with np.errstate(over="ignore"):  # Too large is infinite there, and so not the same.
            short = numbers.astype(np.float32)
        if np.array_equal(short.astype(np.float64), numbers, equal_nan=True):
            return {"kind": "float32"}, short.astype("<f4")
        return {"kind": "float64"}, numbers.astype("<f8")
    if pa.types.is_integer(column.type):
        numbers = column.cast(pa.float64()).to_numpy()
        if column.null_count or np.abs(numbers).max(initial=0) >= 2**31:
            return {"kind": "float64"}, numbers.astype("<f8")
        return {"kind": "int32"}, numbers.astype("<i4")
    encoded = column.combine_chunks().cast(pa.string()).dictionary_encode()
    none = len(encoded.dictionary)
    codes = encoded.indices.fill_null(none).to_numpy(zero_copy_only=False)
    return {"kind": "text", "values": [*encoded.dictionary.to_pylist(), ""]}, codes.astype("<i4")


@functools.cache
def vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, packed; vl-convert carries them.  It takes two
    seconds, once in a process.
    """
    return packed(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").encode())
