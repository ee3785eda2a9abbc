"""A host simulator as environments use it: worker processes behind a memory of results."""

from __future__ import annotations

import collections
import functools
import hashlib
import threading
from collections.abc import Sequence
from typing import Any

import jax

from muscope import runtime
from muscope.config.environment import HostConfig
from muscope.envs.workers import HAS_WORKERS, HostStep, Maker, Pool, Work

ENTRY_BYTES = 512  # what an entry of the memory takes besides its arrays, roughly


class Memo:
    """Results by state and action, the least recently used ones dropped; thread-safe.

    Args:
        size: bytes that may be kept.

    """

    def __init__(self, size: int):
        self.size = size
        self.used = 0
        self._entries: collections.OrderedDict[Any, HostStep] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> HostStep | None:
        """What is known for a key."""
        with self._lock:
            step = self._entries.get(key)
            if step is not None:
                self._entries.move_to_end(key)
            return step

    def put(self, key: Any, step: HostStep) -> None:
        """Keep a result, at the cost of the oldest."""
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = step
            self.used += _bytes(step)
            while self.used > self.size:
                self.used -= _bytes(self._entries.popitem(last=False)[1])


def _bytes(step: HostStep) -> int:
    views = sum(array.nbytes for array in jax.tree.leaves(step.view))
    return len(step.snapshot) + views + ENTRY_BYTES


class Simulator:
    """A pool of workers behind a memory; one per model and process, see :func:`simulator`.

    Attributes:
        computed: resets and steps that workers did, for tests and benchmarks.

    """

    def __init__(self, maker: Maker, config: HostConfig):
        self.pool = Pool(maker, config.workers or (runtime.cores() if HAS_WORKERS else 1))
        self.memo = Memo(config.memory_megabytes * 2**20)
        self.computed = 0

    def __call__(self, work: Sequence[Work]) -> list[HostStep]:
        """Results in the order of the work, each different piece computed at most once."""
        keys = [_key(piece) for piece in work]
        steps = {key: self.memo.get(key) for key in keys}
        missing = {key: piece for key, piece in zip(keys, work, strict=True) if steps[key] is None}
        fresh = self.pool.map(list(missing.values()))
        self.computed += len(fresh)
        for key, step in zip(missing, fresh, strict=True):
            steps[key] = step
            self.memo.put(key, step)
        return [steps[key] for key in keys]  # type: ignore[misc]


def _key(work: Work) -> tuple[bytes | None, int]:
    """A state's digest (16 bytes: no two states of any run share one) and the action."""
    if work.snapshot is None:
        return None, work.number
    return hashlib.blake2b(work.snapshot, digest_size=16).digest(), work.number


@functools.cache
def simulator(maker: Maker, config: HostConfig) -> Simulator:
    """The process's simulator for a maker, which must be hashable."""
    return Simulator(maker, config)
