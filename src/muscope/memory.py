"""How much memory there is, and one line for when it was not enough."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import jax

from muscope.errors import MemoryShortage

LIMIT = Path("/sys/fs/cgroup/memory.max")
"""A container's limit on Linux."""
WORDS = ("RESOURCE_EXHAUSTED", "out of memory", "Cannot allocate memory", "bad_alloc")
"""What JAX, XLA and LLVM say in their errors, which have no class of their own."""


def memory_of(device: jax.Device) -> tuple[float, str]:
    """Bytes that a device can hold (infinity where the system does not tell), and the same in
    words.
    """
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if device.platform != "cpu" and limit:
        return float(limit), f"the device's {limit / 1e9:.1f} GB"
    room = _physical()
    with contextlib.suppress(OSError, ValueError):  # There is none.
        room = min(room, int(LIMIT.read_text()))
    told = f"{room / 1e9:.1f} GB" if math.isfinite(room) else "memory"
    return room, f"this machine's {told}"


def _physical() -> float:
    """Bytes of this machine's memory; infinity where Python cannot ask, as on Windows."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def is_shortage(error: BaseException) -> bool:
    """Whether an error means that memory was not enough."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        return any(words.lower() in str(error).lower() for words in WORDS)
    return isinstance(error, MemoryError)


@contextlib.contextmanager
def said_if_short(what: str, mend: str) -> Iterator[None]:
    """Say in one line that something ran out of memory; also a decorator.

    Args:
        what: was running.
        mend: what to do, such as the settings to lower.

    Raises:
        MemoryShortage: it did.

    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise MemoryShortage(f"{what} ran out of memory ({reason}); {mend}.") from error
