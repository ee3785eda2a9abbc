"""A film's file: a GIF that carries a digest of itself in a comment, which viewers skip."""

from __future__ import annotations

import hashlib
from pathlib import Path

from muscope.errors import RunError

TRAILER = b"\x3b"
_LABEL = b"muscope sha256 "
_TEXT = len(_LABEL) + 64
_BEGIN = b"\x21\xfe" + bytes([_TEXT]) + _LABEL  # A comment extension of one block of text.
_END = b"\x00" + TRAILER


def sealed(data: bytes) -> bytes:
    """A GIF with the digest of its pictures as the last comment."""
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
