"""Whether arrays fit into memory, counted before any of them is made.

Shapes come from ``jax.eval_shape`` and bytes from Python's integers, so that a network of a
million units is refused as quickly as one of a hundred is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from muscope.errors import ConfigError
from muscope.memory import memory_of


class Part(NamedTuple):
    """Something that takes memory."""

    what: str
    """In words: ``the replay``."""
    size: int
    """Bytes."""
    mend: str
    """The settings to lower: ``replay.capacity``."""


def nbytes(tree: Any) -> int:
    """Bytes of a pytree's arrays, or of their description by ``jax.eval_shape``."""
    return sum(_size(leaf) for leaf in jax.tree.leaves(tree))


def total(parts: Sequence[Part]) -> int:
    """Bytes of all parts."""
    return sum(part.size for part in parts)


def widest(function: Callable[..., Any], *arguments: Any) -> int:
    """Bytes that the greatest operation of a function gives, which its forward pass needs twice."""
    return _widest(jax.make_jaxpr(function)(*arguments).jaxpr)


def refuse(task: str, parts: Sequence[Part], device: jax.Device) -> str:
    """What a task takes of a device, in words.

    Raises:
        ConfigError: it is more than there is; the message names the greatest part.

    """
    memory, told = memory_of(device)
    need, greatest = total(parts), max(parts, key=lambda part: part.size)
    words = (
        f"{task} takes about {need / 1e9:,.2f} GB of {told}, "
        f"{greatest.size / 1e9:,.2f} GB of it {greatest.what}"
    )
    if need > memory:
        raise ConfigError(f"{words}; lower {greatest.mend}.")
    return words


def _size(leaf: Any) -> int:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return int(np.prod(leaf.shape, dtype=object)) * np.dtype(leaf.dtype).itemsize


def _widest(jaxpr: Any) -> int:
    found = 0
    for equation in jaxpr.eqns:
        found = max(found, sum(_size(out.aval) for out in equation.outvars))
        for inner in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found = max(found, _widest(inner))
    return found
