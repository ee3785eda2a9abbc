"""What stands for things of users in the marks of kept results: equal text, equal behaviour.

Arrays are digested by :mod:`muscope.subjects`; here are functions, classes and environments.  Of
code outside the package the whole file counts, so that a mended function is looked at anew, and a
changed comment too.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from muscope.config.base import Settings, to_dict

PACKAGE = Path(__file__).parent
DEPTH = 8  # closures in closures that are followed


def of_file(path: str | Path) -> str:
    """SHA-256 of a file, '' if there is none."""
    path = Path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def of_code(*things: Any) -> list[str]:
    """The code of functions, methods and classes, and the numbers that closures hold, sorted."""
    words: set[str] = set()
    for thing in things:
        words.update(_words(thing, DEPTH))
    return sorted(words)


def _words(thing: Any, depth: int) -> Iterator[str]:
    if depth == 0:
        return
    if isinstance(thing, functools.partial):
        yield from _words((thing.func, thing.args, *thing.keywords.values()), depth - 1)
    elif isinstance(thing, types.MethodType):
        yield from _words(thing.__func__, depth - 1)
    elif isinstance(thing, types.FunctionType):
        yield _place(thing)
        held = [cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell)]
        yield from _words((*held, *(thing.__defaults__ or ())), depth - 1)
    elif isinstance(thing, type):
        yield _place(thing)
    elif isinstance(thing, list | tuple):
        for part in thing:
            yield from _words(part, depth - 1)
    elif isinstance(thing, bool | int | float | str | bytes):
        yield repr(thing)
    elif hasattr(thing, "__array__") and hasattr(thing, "dtype"):
        array = np.asarray(thing) if not str(thing.dtype).startswith("key") else None
        if array is not None:
            yield hashlib.sha256(array.tobytes()).hexdigest()
    elif hasattr(type(thing), "__module__") and type(thing).__module__ != "builtins":
        yield _place(type(thing))


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _place(thing: Any) -> str:
    """A name, with the digest of its file if that is neither ours nor an installed package's."""
    module = sys.modules.get(thing.__module__)
    file = Path(getattr(module, "__file__", None) or "")
    ours = file.is_relative_to(PACKAGE) or "site-packages" in file.parts
    digest = "" if ours else of_file(file)
    return f"{thing.__module__}.{thing.__qualname__} {digest}".strip()


def of_environment(environment: Any) -> dict[str, Any]:
    """An environment's sizes, its own settings, and its code; a wrapped one's too."""
    described: dict[str, Any] = {
        "spec": str(environment.spec),
        "code": of_code(type(environment)),
    }
    for name, value in sorted(vars(environment).items()):
        if isinstance(value, Settings):
            described[name] = {k: v for k, v in to_dict(value).items() if k != "host"}
        elif isinstance(value, bool | int | float | str):
            described[name] = value
        elif hasattr(value, "spec") and hasattr(value, "observe"):
            described[name] = of_environment(value)
    return described
