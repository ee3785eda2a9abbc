"""How XLA compiles, batches and rounds parts of a program.

:func:`apart` and :func:`kernel` concern the CPU only; elsewhere they do nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` kept out of its surroundings, so that it compiles alike in every program.

    XLA would otherwise fuse it with its neighbours, and where a product meets a sum in one
    fusion it is rounded once instead of twice.
    """
    return _marked(function, inlineable="false")


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A short loop as one machine-code function.

    XLA's CPU backend runs a loop operation by operation, about half a microsecond each, which
    is many times what an iteration over a tile of lanes computes.  Marked as a small call,
    the loop of free flight is 3 to 5 times as fast.  Long bodies take minutes to compile so.
    """
    return _marked(function, inlineable="false", xla_cpu_small_call="true")


def for_lanes(of_lanes: Callable[..., Any]) -> Callable[..., Any]:
    """A function of [L, ...] under ``jax.vmap``: every further axis becomes more lanes."""
    mapped: Any = custom_vmap(of_lanes)

    @mapped.def_vmap
    def more(size, batched, *given):
        def flat(x, has_axis):
            x = x if has_axis else jnp.broadcast_to(x, (size, *x.shape))
            return x.reshape(-1, *x.shape[2:])

        out = mapped(*jax.tree.map(flat, given, tuple(batched)))
        out = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), out)
        return out, jax.tree.map(lambda _: True, out)

    return mapped


def of_one_lane(of_lanes: Callable[..., Any], *given: Any) -> Any:
    """What a function of lanes gives for one."""
    alone = jax.tree.map(lambda x: x[None], given)
    return jax.tree.map(lambda x: x[0], of_lanes(*alone))


def rounded(value: Array) -> Array:
    """``value``, computed as it is written.

    XLA would otherwise merge what is before and behind it, (x + a) + b into x + (a + b) or
    y * (1 / sqrt(x)) into y * rsqrt(x), and round where Box2D does not.
    """
    return jax.lax.optimization_barrier(value)


def _marked(function: Callable[..., Any], **marks: str) -> Callable[..., Any]:
    compiled = jax.jit(function)

    def call(*arguments: Any) -> Any:
        if jax.default_backend() != "cpu":
            return function(*arguments)
        with set_xla_metadata(**marks):
            return compiled(*arguments)

    return call
