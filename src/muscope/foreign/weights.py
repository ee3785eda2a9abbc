"""The named arrays of a state dict, taken one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from muscope.errors import CheckpointError
from muscope.foreign import torch_file


class Weights:
    """The arrays of one network, each of which must be asked for.

    Args:
        arrays: by name.
        path: where they were read, for messages.
        package: whose network it should be, for messages.

    """

    def __init__(self, arrays: Mapping[str, np.ndarray], path: str | Path, package: str):
        self._arrays = dict(arrays)
        self._left = set(arrays)
        self.path, self.package = path, package

    def __call__(self, name: str, dimensions: int) -> np.ndarray:
        """One array as float64.

        Raises:
            CheckpointError: there is none of that name, or it has not so many dimensions.

        """
        if name not in self._arrays:
            raise self.foreign(f"there is no '{name}'")
        array = self._arrays[name]
        if array.ndim != dimensions:
            raise self.foreign(f"'{name}' has the shape {array.shape}")
        self._left.discard(name)
        return np.asarray(array, np.float64)

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._arrays)

    def has(self, name: str) -> bool:
        """Whether there is an array of that name, or one below it."""
        return any(known == name or known.startswith(f"{name}.") for known in self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """An array's shape; it still has to be asked for."""
        if name not in self._arrays:
            raise self.foreign(f"there is no '{name}'")
        return self._arrays[name].shape

    def numbered(self, name: str) -> list[int]:
        """The numbers n for which there is something below ``name.n``, ascending."""
        below = re.compile(re.escape(name) + r"\.(\d+)\.")
        return sorted({int(m[1]) for m in map(below.match, self._arrays) if m})

    def done(self, unused: Iterable[str] = ()) -> None:
        """Check that every array was asked for.

        Args:
            unused: beginnings of names that do not belong to h, g and f.

        Raises:
            CheckpointError: something is left, so this is another network.

        """
        unused = tuple(unused)
        left = [
            name
            for name in sorted(self._left)
            if not name.startswith(unused) and not name.endswith("num_batches_tracked")
        ]
        if left:
            raise self.foreign(f"'{left[0]}' does not belong to it")

    def foreign(self, reason: str) -> CheckpointError:
        """The error that says why these are another network's."""
        return CheckpointError(
            f"{self.path} does not hold a network of {self.package} that this reads: {reason}."
        )


def weights_in(path: str | Path, package: str, key: str, first: str) -> Weights:
    """The state dict of a checkpoint: bare, or under ``key``.

    Args:
        path: a file that ``torch.save`` wrote.
        package: whose network it should be.
        key: the package's own name for the state dict in its checkpoints.
        first: with what the names of one of its arrays begin.

    Raises:
        CheckpointError: the file cannot be read, or holds no such state dict.

    """
    content = torch_file.read(path)
    for state in (content, content.get(key) if isinstance(content, dict) else None):
        if isinstance(state, dict) and any(str(name).startswith(first) for name in state):
            arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
            return Weights(arrays, path, package)
    names = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content)
    raise CheckpointError(
        f"{path} holds no weights of {package} ('{first}...', bare or under '{key}'); "
        f"it holds: {names}."
    )
