"""A host simulator as environments use it: worker processes behind a memory of results."""

from __future__ import annotations

import collections
import functools
import hashlib
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from muscope import runtime
from muscope.config.environment import HostConfig
from muscope.envs.workers import HAS_WORKERS, HostStep, Maker, Played, Playout, Pool, Work

ENTRY_BYTES = 512  # what an entry of the memory takes besides its arrays, roughly


class Memo:
    """Results by state and action, the least recently used ones dropped; thread-safe.

    Args:
        size: bytes that may be kept.

    """

    def __init__(self, size: int):
        self.size = size
        self.used = 0
        self._entries: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Any:
        """What is known for a key."""
        with self._lock:
            step = self._entries.get(key)
            if step is not None:
                self._entries.move_to_end(key)
            return step

    def put(self, key: Any, step: Any) -> None:
        """Keep a result, at the cost of the oldest."""
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = step
            self.used += _bytes(step)
            while self.used > self.size:
                self.used -= _bytes(self._entries.popitem(last=False)[1])


def _bytes(step: Any) -> int:
    views = sum(array.nbytes for array in jax.tree.leaves(step.view))
    return len(step.snapshot) + views + ENTRY_BYTES


class Simulator:
    """A pool of workers behind a memory; one per model and process, see :func:`simulator`.

    Attributes:
        computed: resets and steps that workers did, for tests and benchmarks.
        playing: whether its models are :class:`muscope.envs.workers.PlayingModel` s.

    """

    def __init__(self, maker: Maker, config: HostConfig):
        self.pool = Pool(maker, config.workers or (runtime.cores() if HAS_WORKERS else 1))
        self.memo = Memo(config.memory_megabytes * 2**20)
        self.computed, self.playing = 0, False

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
        return [steps[key] for key in keys]

    def play(self, work: Sequence[Playout]) -> list[list[float]]:
        """Rewards of given actions up to the end, in the order of the work.

        What is known of a beginning is not computed again: where few actions matter, as a paddle's
        while the ball is away, many sequences lead to the same states.
        """
        walks = [self._walk(piece) for piece in work]
        rests = [walk.rest for walk in walks if walk.rest is not None]
        played = iter(self.pool.map(rests))
        for walk in walks:
            if walk.rest is not None:
                walk.rewards.extend(self._learn(walk, next(played)))
        return [walk.rewards for walk in walks]

    def _walk(self, piece: Playout) -> _Walk:
        """As far as is known."""
        snapshot, digest, rewards = piece.snapshot, _digest(piece.snapshot), list[float]()
        for i, action in enumerate(piece.actions):
            known = self.memo.get((digest, action, piece.training))
            if known is None:
                return _Walk(rewards, digest, Playout(snapshot, piece.actions[i:], piece.training))
            rewards.append(known.reward)
            if known.ended:
                break
            snapshot, digest = known.snapshot, known.digest
        return _Walk(rewards, digest, None)

    def _learn(self, walk: _Walk, played: list[Played]) -> list[float]:
        """Remember what was played, and give its rewards."""
        assert walk.rest is not None
        self.computed += len(played)
        digest = walk.digest
        for action, step in zip(walk.rest.actions, played, strict=False):
            if step.snapshot is None:
                break
            following = _digest(step.snapshot)
            known = _Known(step.snapshot, (), following, step.reward, step.ended)
            self.memo.put((digest, action, walk.rest.training), known)
            digest = following
        return [step.reward for step in played]


class _Walk(NamedTuple):
    """Some given actions."""

    rewards: list[float]
    digest: bytes
    """Of the state that those have led to."""
    rest: Playout | None
    """The actions that nothing is known of."""


class _Known(NamedTuple):
    """A given action's result, as the memory keeps it."""

    snapshot: bytes
    view: tuple[()]
    digest: bytes
    reward: float
    ended: bool


def _digest(snapshot: bytes) -> bytes:
    """Stands for a state: 16 bytes, no two states of any run share one."""
    return hashlib.blake2b(snapshot, digest_size=16).digest()


def _key(work: Work) -> tuple[bytes | None, int]:
    """A state's digest and the action."""
    return (None if work.snapshot is None else _digest(work.snapshot)), work.number


@functools.cache
def simulator(maker: Maker, config: HostConfig) -> Simulator:
    """The process's simulator for a maker, which must be hashable."""
    return Simulator(maker, config)
