"""Prioritised replay of one agent, on the device.

A ring of rows [time, lanes]: all lanes advance together, so one cursor serves them all.
A row is a state the agent searched from and the transition it took (see
:mod:`muscope.envs.episode`).  Rows are appended without priority arithmetic on the host
and overwritten in order; an overwritten row takes its priority with it.

Of an environment that shows its last few frames only the newest frame of every row is kept,
and the stack is put together when a row is drawn.  The frames' ring is longer than the rows' by
what the oldest row still needs.

Sampling follows Schaul et al. (2016): P(i) ~ p_i^alpha with importance weights
(N P(i))^-beta, scaled by their maximum in the batch.  No sum-tree is kept: its
sums are computed anew from the priorities at every draw, so rounding cannot drift, and a row of
priority 0 is never drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

WAYS = 32  # numbers summed together, level by level


class Rows(NamedTuple):
    """Experience; every field has leading axes [time, lanes] in the ring."""

    observation: Num[Array, "*rows ..."]
    """The observation; if frames are stacked, the newest frame.  In the ring the frames have
    ``stack`` - 1 more rows than everything else."""
    action: Int[Array, "*rows"]
    reward: Float[Array, "*rows"]
    terminated: Bool[Array, "*rows"]
    """The transition of this row ended the episode."""
    last: Bool[Array, "*rows"]
    """The time limit cut the episode at this state; the row has no transition."""
    policy: Float[Array, "*rows A"]
    """Root visit distribution of the latest search from this state."""
    value: Float[Array, "*rows"]
    """v^MCTS of the latest search from this state."""
    age: Int[Array, "*rows"] | None = None
    """If frames are stacked: how many of the rows before belong to the same game, at most
    ``stack`` - 1."""


class Replay(NamedTuple):
    """The ring of one agent.  T = capacity / lanes."""

    rows: Rows
    weight: Float[Array, "T lanes"]
    """p_i^alpha; 0 marks a row that was never written.  The power is kept, not the priority,
    because taking it anew for every row at every draw costs more than the draw."""
    written: Int[Array, ""]
    """Rows appended per lane since the beginning; the next goes to ``written % T``."""


def create(example: Rows, length: int, lanes: int, stack: int = 1) -> Replay:
    """An empty ring for rows shaped like ``example`` (one row, no leading axes)."""

    def ring(x: Array, length: int) -> Array:
        return jnp.zeros((length, lanes, *x.shape), x.dtype)

    rows = jax.tree.map(lambda x: ring(x, length), example)
    rows = rows._replace(observation=ring(example.observation, length + stack - 1))
    return Replay(rows, jnp.zeros((length, lanes)), jnp.zeros((), jnp.int32))


def append(replay: Replay, rows: Rows) -> Replay:
    """Write one row per lane."""
    return finish(begin(replay, rows.observation), rows)


def begin(replay: Replay, observation: Num[Array, "lanes ..."]) -> Replay:
    """The first half of :func:`append`: write :attr:`Rows.observation` alone.

    Rows can be recalled between the halves; only those that will be overwritten are no longer what
    they were.  Were they recalled from the ring before, XLA would copy it: it writes in place what
    nobody else reads.
    """
    observation = _write(replay, replay.rows.observation, observation)
    return replay._replace(rows=replay.rows._replace(observation=observation))


def finish(replay: Replay, rows: Rows) -> Replay:
    """The second half: write everything else; new rows get the greatest priority there is, so that
    each is likely to be learned from soon.
    """
    rings, new = replay.rows._asdict(), rows._asdict()
    observation, _ = rings.pop("observation"), new.pop("observation")
    rest = jax.tree.map(lambda ring, row: _write(replay, ring, row), rings, new)
    top = jnp.max(replay.weight)
    top = jnp.where(top > 0, top, 1.0)
    weight = _write(replay, replay.weight, jnp.full(replay.weight.shape[1:], top))
    return Replay(Rows(observation=observation, **rest), weight, replay.written + 1)


def _write(replay: Replay, ring: Array, row: Array) -> Array:
    at = replay.written % ring.shape[0]
    return jax.lax.dynamic_update_slice_in_dim(ring, row[None], at, 0)


def recall(replay: Replay, index: Int[Array, ""]) -> Num[Array, "..."]:
    """What was kept of the state of a row: its observation, or its last frames [stack, ...],
    oldest first.  Indices beyond the ring give the last row's.
    """
    length, lanes = replay.weight.shape
    index = jnp.minimum(index, length * lanes - 1)
    time, lane = index // lanes, index % lanes
    kept = replay.rows.observation
    if replay.rows.age is None:
        return kept.at[time, lane].get(mode="promise_in_bounds")
    stack = kept.shape[0] - length + 1
    newest = replay.written - 1
    row = newest - (newest - time) % length  # rows of the lane before this one, ever
    back = jnp.minimum(jnp.arange(stack)[::-1], replay.rows.age[time, lane])
    return kept.at[(row - back) % kept.shape[0], lane].get(mode="promise_in_bounds")


def ahead(replay: Replay, index: Int[Array, ""], rows: Int[Array, "*rows"]) -> Int[Array, "*rows"]:
    """The flat indices of rows that come so many later in the lane of ``index``."""
    length, lanes = replay.weight.shape
    return (index // lanes + rows) % length * lanes + index % lanes


def refresh(
    replay: Replay,
    index: Int[Array, "R"],
    policy: Float[Array, "R A"],
    value: Float[Array, "R"],
) -> Replay:
    """Replace search results of old rows (Reanalyse); priorities are left alone.

    Indices are distinct; those beyond the ring are ignored.
    """
    lanes = replay.weight.shape[1]
    at = (index // lanes, index % lanes)
    rows = replay.rows._replace(
        policy=replay.rows.policy.at[at].set(policy, mode="drop"),
        value=replay.rows.value.at[at].set(value, mode="drop"),
    )
    return replay._replace(rows=rows)


def reprioritise(
    replay: Replay, index: Int[Array, "B"], priority: Float[Array, "B"], alpha: float
) -> Replay:
    """Give the rows ``index`` new priorities p_i > 0."""
    flat = replay.weight.reshape(-1).at[index].set(priority**alpha, mode="promise_in_bounds")
    return replay._replace(weight=flat.reshape(replay.weight.shape))


def draw_distinct(key: Key[Array, ""], replay: Replay, count: int) -> Int[Array, "count"]:
    """Flat indices of distinct written rows, evenly spread over them: one in each of ``count``
    equal parts; ``key`` is consumed.

    Distinct, because two searches of one row would be written in an undefined order.  While
    there are fewer rows than ``count``, the surplus indices lie beyond the ring.
    """
    length, lanes = replay.weight.shape
    filled = jnp.minimum(replay.written, length) * lanes
    # In float32 exact up to 2^24 rows.
    edges = (jnp.arange(count + 1) * (filled / count)).astype(jnp.int32).at[count].set(filled)
    width = edges[1:] - edges[:-1]
    part_key, turn_key = jax.random.split(key)
    inside = (jax.random.uniform(part_key, (count,)) * width).astype(jnp.int32)
    chosen = edges[:-1] + jnp.minimum(inside, width - 1)
    # Parts differ by a row in size; a random rotation makes every row equally likely.
    chosen = (chosen + jax.random.randint(turn_key, (), 0, filled)) % jnp.maximum(filled, 1)
    return jnp.where(width > 0, chosen, length * lanes)


def draw(
    key: Key[Array, ""], replay: Replay, count: int, beta: Float[Array, ""] | float
) -> tuple[Int[Array, "count"], Float[Array, "count"]]:
    """Draw rows in proportion to their weight p^alpha, with replacement; ``key`` is consumed.

    Returns:
        Flat indices into [T * lanes], and importance weights (N P(i))^-beta divided by
        the greatest of the batch.

    """
    length, lanes = replay.weight.shape
    weight = replay.weight.reshape(-1)
    levels = _sums(weight)

    def draw_one(goal: Float[Array, ""]) -> tuple[Int[Array, ""], Float[Array, ""]]:
        entry = jnp.int32(0)
        for level in reversed(levels):
            mass = level[entry]
            item, before = _first_beyond(mass, goal)
            entry, goal = entry * WAYS + item, goal - before
        # Not read from the ring once more: XLA would copy it before priorities are changed.
        return entry, mass[item]

    total = jnp.sum(levels[-1])
    index, chosen = jax.vmap(draw_one)(jax.random.uniform(key, (count,)) * total)
    size = jnp.minimum(replay.written, length) * lanes
    importance = (size * chosen / total) ** -beta
    return index, importance / jnp.max(importance)


def _sums(weight: Float[Array, "n"]) -> list[Float[Array, "_ ways"]]:
    """The weights, their sums in groups of :data:`WAYS`, the sums of those, ..., up to one group;
    each as groups.
    """
    levels = []
    while True:
        groups = jnp.pad(weight, (0, -weight.shape[0] % WAYS)).reshape(-1, WAYS)
        levels.append(groups)
        if len(groups) == 1:
            return levels
        # A product with ones, because XLA's CPU backend is slow at summing many short rows.
        weight = groups @ jnp.ones((WAYS,))


def _first_beyond(
    mass: Float[Array, "ways"], goal: Float[Array, ""]
) -> tuple[Int[Array, ""], Float[Array, ""]]:
    """The first entry with mass at which the running sum exceeds ``goal``, and the sum
    before it.  Rounding may leave none; then the entry with most mass.
    """
    # Running sums as a product, which is faster than a scan along short rows.
    before = mass @ jnp.triu(jnp.ones((WAYS, WAYS)), 1)
    beyond = (before + mass > goal) & (mass > 0)
    entry = jnp.where(beyond.any(), jnp.argmax(beyond), jnp.argmax(mass)).astype(jnp.int32)
    return entry, before[entry]
