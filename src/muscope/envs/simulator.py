"""A host simulator as environments use it: worker processes behind a memory of results."""

from __future__ import annotations

import collections
import functools
import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from muscope.envs.workers import HostModel, HostStep, Maker, Pool, Work
from muscope.errors import ConfigError

ENTRY_BYTES = 512  # what an entry of the memory takes besides its arrays, roughly


@dataclass(frozen=True)
class HostConfig:
    """How host environments are run; no result depends on it."""

    workers: int = 0
    """Worker processes; 0 for one per CPU core, 1 to step in this process."""
    memory_megabytes: int = 256
    """Size of the memory of (state, action) results; 0 for none."""

    def __post_init__(self) -> None:
        if self.workers < 0 or self.memory_megabytes < 0:
            raise ConfigError("environment.host's settings must not be negative.")


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
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

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
    return len(step.snapshot) + step.view.nbytes + ENTRY_BYTES


class Simulator:
    """A pool of workers behind a memory; one per model and process, see :func:`simulator`.

    Attributes:
        computed: resets and steps that workers did, for tests and benchmarks.

    """

    def __init__(self, maker: Maker, config: HostConfig):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self.pool = Pool(maker, config.workers or cores)
        self.memo = Memo(config.memory_megabytes * 2**20)
        self.computed = 0

    def __call__(self, work: Sequence[Work]) -> list[HostStep]:
        """Results in the order of the work, each different piece computed at most once."""
        keys = [_key(one) for one in work]
        found = {key: self.memo.get(key) for key in keys}
        missing = {key: one for key, one in zip(keys, work, strict=True) if found[key] is None}
        fresh = self.pool.map(list(missing.values()))
        self.computed += len(fresh)
        for key, step in zip(missing, fresh, strict=True):
            found[key] = step
            self.memo.put(key, step)
        return [found[key] for key in keys]  # type: ignore[misc]


def _key(work: Work) -> tuple[bytes | None, int]:
    """A state's digest (16 bytes: no two states of any run share one) and the action."""
    if work.snapshot is None:
        return None, work.number
    return hashlib.blake2b(work.snapshot, digest_size=16).digest(), work.number


@functools.cache
def simulator(maker: Maker, config: HostConfig) -> Simulator:
    """The process's simulator for a maker, which must be hashable."""
    return Simulator(maker, config)


def check_restores(model: HostModel, name: str, num_actions: int) -> None:
    """Refuse a simulator whose steps depend on more than the snapshot.

    Raises:
        ConfigError: a step gave another result after other states had been visited.

    """
    state = model.reset(0)
    for action in (*range(num_actions), 0, num_actions - 1):
        once = model.step(state.snapshot, action)
        model.step(once.snapshot, num_actions - 1 - action)
        model.reset(0)
        twice = model.step(state.snapshot, action)
        if not (
            once.snapshot == twice.snapshot
            and np.array_equal(once.view, twice.view)
            and (once.reward, once.over, once.lives) == (twice.reward, twice.over, twice.lives)
        ):
            raise ConfigError(
                f"the state of '{name}' cannot be saved and restored, so it cannot serve as the "
                "true model; choose another game."
            )
        if once.over:
            return
        state = once
