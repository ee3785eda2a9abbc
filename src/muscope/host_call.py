"""Calling Python on the host out of a compiled program, in batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental.buffer_callback import buffer_callback

from muscope.errors import MuscopeError

OWN = (MuscopeError, MemoryError, KeyboardInterrupt)
"""Errors of the host that keep their class; of any other JAX makes one of its own."""
_failures: list[BaseException] = []


@contextlib.contextmanager
def host_errors() -> Iterator[None]:
    """Raise a failed call's own error instead of the one that JAX makes of it."""
    _failures.clear()
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if _failures:
            raise _failures[-1] from error
        raise


def host_call(on_host: Callable[..., None], shapes: Any, *arguments: Any) -> Any:
    """``on_host(outputs, *arguments)`` as a pure operation of the compiled program.

    However deeply ``jax.vmap`` is nested, everything mapped on a device comes in one call, with the
    mapped axes in front of every array.

    On the CPU the callback works on XLA's own buffers: ``jax.pure_callback`` would copy inputs
    beyond 100 KB by a task for the very threads that wait for the callback, and hang.

    Args:
        on_host: writes the outputs; NumPy arrays, the inputs not to be written to.  A
            :class:`MuscopeError` that it raises, and what else is in :data:`OWN`, comes out of
            :func:`host_errors`.
        shapes: ``jax.ShapeDtypeStruct`` of every output without mapped axes, a pytree.
        arguments: pytrees of arrays.

    """
    rank = jax.tree.leaves(arguments)[0].ndim

    def run(outputs: Any, inputs: Any) -> None:
        try:
            on_host(outputs, *inputs)
        except OWN as error:
            _failures.append(error)
            raise

    def in_place(context: Any, outputs: Any, *inputs: Any) -> None:
        run(jax.tree.map(np.asarray, outputs), jax.tree.map(np.asarray, inputs))

    def by_copy(*inputs: Any) -> Any:
        inputs = jax.tree.map(np.asarray, inputs)
        first = jax.tree.leaves(inputs)[0]
        mapped = first.shape[: first.ndim - rank]  # All inputs and outputs have these axes.
        outputs = jax.tree.map(lambda s: np.empty(mapped + s.shape, s.dtype), shapes)
        run(outputs, inputs)
        return outputs

    return jax.lax.platform_dependent(
        *arguments,
        cpu=buffer_callback(in_place, shapes, vmap_method="broadcast_all"),
        default=lambda *inputs: jax.pure_callback(
            by_copy, shapes, *inputs, vmap_method="broadcast_all"
        ),
    )
