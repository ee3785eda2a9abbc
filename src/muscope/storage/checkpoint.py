"""Self-describing checkpoints: safetensors files with a checked header, written atomically.

A file holds a pytree's leaves under their paths and, in its header, a format name, the
run's config, the training step, the versions that wrote it and a digest of all of that.
There is no pickle, so reading a foreign file cannot run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from muscope.errors import CheckpointError
from muscope.storage.json_file import CHECKSUM, checksum
from muscope.version import __version__

AGENTS_FORMAT = "muscope-agents-1"
STATE_FORMAT = "muscope-state-2"


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` with ``data``; a reader sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError the file's name, which the system leaves out of a failed write."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # A library's own words.
            raise OSError(f"{path}: {error}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_leftover(path: Path) -> bool:
    """Whether a file is the unfinished write of a process that was killed."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def versions() -> dict[str, str]:
    """The versions that a result's bits depend on."""
    return {"muscope": __version__, "jax": jax.__version__}


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named_leaves(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _digest(arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> str:
    """SHA-256 of all arrays and of the header, its own entry and the checksum left out."""
    rest = {name: value for name, value in header.items() if name not in ("digest", CHECKSUM)}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write(path: Path, tree: Any, *, kind: str, step: int, config: dict, **extra: Any) -> None:
    """Write a pytree of arrays.

    Args:
        path: the file to replace.
        tree: arrays, PRNG keys included.
        kind: the format's name, checked on reading.
        step: training step.
        config: the run's config as plain JSON types.
        extra: more JSON values for the header.

    """
    arrays = {
        name: np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for name, leaf in _named_leaves(tree).items()
    }
    header = {
        "format": kind,
        "step": step,
        "config": config,
        "versions": versions(),
        **extra,
    }
    header["digest"] = _digest(arrays, header)
    header[CHECKSUM] = checksum(header)  # For who reads the header alone.
    # One entry, because safetensors keeps header entries in no fixed order.
    data = save(arrays, {"muscope": json.dumps(header, sort_keys=True)})
    write_atomically(path, data)


def read_header(path: Path, kind: str) -> dict[str, Any]:
    """The header of a checkpoint, checked; the arrays are not.

    Raises:
        CheckpointError: the file is missing, damaged, or not of this kind.

    """
    return _read(path, kind, arrays=False)[0]


def read(path: Path, template: Any, kind: str) -> tuple[Any, dict[str, Any]]:
    """The pytree and header of a checkpoint.

    Args:
        path: the file.
        template: pytree of arrays or ``jax.ShapeDtypeStruct`` with the expected structure.
        kind: the expected format.

    Raises:
        CheckpointError: the file is missing, damaged, not of this kind, or holds other shapes.

    """
    header, arrays = _read(path, kind, arrays=True)
    if _digest(arrays, header) != header.get("digest"):
        raise _damaged(path, "its content does not match its digest")
    expected = _named_leaves(template)
    if set(expected) != set(arrays):
        odd = sorted(set(expected) ^ set(arrays))[0]
        raise CheckpointError(
            f"{path} does not fit this run's network: '{odd}' is on one side only. "
            "Open it with the config it was written with."
        )
    leaves = []
    for name, want in expected.items():
        array = arrays[name]
        leaf = jax.random.wrap_key_data(jnp.asarray(array)) if _is_key(want) else array
        if leaf.shape != want.shape or leaf.dtype != want.dtype:
            raise CheckpointError(
                f"{path}: '{name}' is {leaf.dtype}{list(leaf.shape)}, this run needs "
                f"{want.dtype}{list(want.shape)}. Open it with the config it was written with."
            )
        leaves.append(leaf)
    return jax.tree.unflatten(jax.tree.structure(template), leaves), header


def _read(path: Path, kind: str, arrays: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; train the run first.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            content = {name: file.get_tensor(name) for name in file.keys()} if arrays else {}  # noqa: SIM118
    except Exception as error:  # Of no common kind: what a decoder meets in damaged data varies.
        raise _damaged(path, f"not a readable checkpoint, {error}") from error
    try:
        header = json.loads(metadata["muscope"])
        sound = header[CHECKSUM] == checksum(header) if CHECKSUM in header else True
        kind_written, _ = header["format"], header["digest"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} was not written by muscope, or is damaged; give the path of a muscope run, or "
            "delete the file and let 'muscope train' make it again."
        ) from error
    if not sound:
        raise _damaged(path, "its header does not match its checksum")
    if kind_written != kind:
        raise CheckpointError(
            f"{path} has format '{kind_written}', expected '{kind}'; "
            "it was written by another version of muscope or is another kind of file."
        )
    return header, content


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged ({reason}). Restore it, or delete it: 'muscope train' with the run's "
        "settings makes it again."
    )
