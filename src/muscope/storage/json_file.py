"""JSON files that notice damage: a checksum of the parsed content stands in the file itself.

It stands first, in a line of its own, so that who edits a file by hand can delete that line.  Of
what is parsed and not of bytes, so that white space and the order of keys do not matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muscope.errors import RunError

CHECKSUM = "checksum"
"""The key; a file or line without it is accepted, as one that was written or edited by hand."""


def checksum(content: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of JSON's types, an entry :data:`CHECKSUM` left out."""
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:16]


def encoded(content: Mapping[str, Any]) -> bytes:
    """A file's bytes: the content with its checksum before it."""
    content = json.loads(json.dumps(content))  # What is parsed: names are strings, tuples lists.
    whole = {CHECKSUM: checksum(content), **content}
    return (json.dumps(whole, indent=2) + "\n").encode()


def read(path: Path) -> dict[str, Any]:
    """The content that :func:`encoded` was given.

    Raises:
        RunError: the file cannot be read, is no table of JSON, or not what its checksum says.

    """
    try:
        content = json.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path} cannot be read ({error}): damaged, or edited by hand; restore it or mend it."
        ) from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is no table of settings: damaged; restore it.")
    if content.get(CHECKSUM, checksum(content)) != checksum(content):
        raise RunError(
            f"{path} does not match its own checksum: damaged, or edited by hand; restore it, or "
            f"if the change is wanted delete its line '{CHECKSUM}'."
        )
    content.pop(CHECKSUM, None)
    return content
