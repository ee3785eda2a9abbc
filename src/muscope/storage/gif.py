"""A film's file: a GIF that carries its episode's numbers, and a digest of itself, in comments,
which viewers skip.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

from muscope.errors import RunError

TRAILER = b"\x3b"
_LABEL = b"muscope sha256 "
_TEXT = len(_LABEL) + 64
_BEGIN = b"\x21\xfe" + bytes([_TEXT]) + _LABEL  # A comment extension of one block of text.
_END = b"\x00" + TRAILER
_NOTES = b"\x21\xfe\x0dmuscope notes"


def noted(data: bytes, notes: Any) -> bytes:
    """A GIF, not sealed yet, with notes (any JSON) in a comment behind its pictures."""
    packed = zlib.compress(json.dumps(notes).encode(), 9)
    blocks = [packed[at : at + 255] for at in range(0, len(packed), 255)]
    text = b"".join(bytes([len(block)]) + block for block in blocks)
    return data.removesuffix(TRAILER) + _NOTES + text + b"\x00" + TRAILER


def notes_of(data: bytes) -> Any:
    """The notes of a GIF as :func:`read` gives it; None without any."""
    at = data.rfind(_NOTES)
    if at < 0:
        return None
    at += len(_NOTES)
    packed = b""
    while length := data[at]:
        packed += data[at + 1 : at + 1 + length]
        at += 1 + length
    return json.loads(zlib.decompress(packed))


def sealed(data: bytes) -> bytes:
    """A GIF with the digest of all before it as the last comment."""
    body = data.removesuffix(TRAILER)
    return body + _BEGIN + hashlib.sha256(body).hexdigest().encode() + _END


def read(path: Path) -> bytes:
    """The bytes of a film; one without a digest, as others write them, is taken as it is.

    Raises:
        RunError: it cannot be read, or is not what its digest says.

    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); mend that first.") from error
    length = len(_BEGIN) + 64 + len(_END)
    # Looked for without its frame, so that a damaged frame is noticed too.
    if _LABEL in data[-length:]:
        body = data[:-length]
        if data != sealed(body):
            raise RunError(
                f"{path} does not match its own digest: damaged; delete it and run "
                f"'muscope film {path.parent}'."
            )
    return data
