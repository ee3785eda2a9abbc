"""Prioritised replay against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_targets import filled

from muscope import room
from muscope.learning import replay


def frequencies(index, size):
    return np.bincount(np.asarray(index), minlength=size) / len(index)


def weighted(weight):
    """A full ring of one lane or more whose rows have these weights p^alpha."""
    weight = jnp.asarray(weight, jnp.float32)
    ring = filled([0.0], length=weight.shape[0], lanes=weight.shape[1])
    return ring._replace(weight=weight, written=jnp.int32(weight.shape[0]))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_rows_are_drawn_in_proportion_to_priority_to_the_alpha(alpha):
    rng = np.random.default_rng(0)
    priority = rng.uniform(0.1, 5.0, size=300)
    unwritten = rng.uniform(size=300) < 0.3
    ring = weighted(np.where(unwritten, 0.0, 1.0).reshape(100, 3))
    index = np.flatnonzero(~unwritten)
    ring = replay.reprioritise(
        ring, jnp.asarray(index), jnp.asarray(priority[index], jnp.float32), alpha
    )
    drawn, _ = replay.draw(jax.random.key(0), ring, 200_000, 0.4)
    expected = np.where(unwritten, 0, priority**alpha)
    expected /= expected.sum()
    np.testing.assert_allclose(frequencies(drawn, 300), expected, atol=7e-4)
    assert (frequencies(drawn, 300)[unwritten] == 0).all()


def test_importance_weights_equal_their_formula():
    ring = weighted([[1.0], [2.0], [3.0], [2.0]])
    index, importance = replay.draw(jax.random.key(1), ring, 64, 0.7)
    p = np.array([1, 2, 3, 2]) / 8
    raw = (4 * p[np.asarray(index)]) ** -0.7
    np.testing.assert_allclose(importance, raw / raw.max(), rtol=1e-5)
    assert set(np.asarray(index).tolist()) == {0, 1, 2, 3}


def test_a_row_of_priority_zero_is_never_drawn():
    """One positive row among 100,000, huge and tiny ones beside each other."""
    for position in (0, 127, 128, 99_999):
        ring = weighted(np.eye(1, 100_000, position).T * 1e-3)
        index, _ = replay.draw(jax.random.key(2), ring, 1000, 1.0)
        assert (np.asarray(index) == position).all()
    rng = np.random.default_rng(0)
    mixed = 10.0 ** rng.uniform(-6, 6, size=(40_000, 1)) * (rng.uniform(size=(40_000, 1)) < 0.01)
    index, _ = replay.draw(jax.random.key(3), weighted(mixed), 100_000, 1.0)
    assert (mixed.ravel()[np.asarray(index)] > 0).all()


def test_new_rows_get_the_greatest_priority_and_overwritten_ones_lose_theirs():
    ring = filled([1, 2, 3], length=4)
    np.testing.assert_array_equal(ring.weight[:, 0], [1, 1, 1, 0])
    ring = replay.reprioritise(ring, jnp.array([0, 1]), jnp.array([49.0, 0.25]), 0.5)
    row = jax.tree.map(lambda x: x[2], ring.rows)
    ring = replay.append(ring, row)
    np.testing.assert_array_equal(ring.weight[:, 0], [7, 0.5, 1, 7])
    ring = replay.append(replay.append(ring, row), row)
    np.testing.assert_array_equal(ring.weight[:, 0], [7, 7, 1, 7])


def test_refreshing_a_row_replaces_its_search_and_nothing_else():
    ring = filled([1, 2, 3, 4])
    ring = ring._replace(weight=jnp.asarray([[1.0], [2.0], [3.0], [4.0]]))
    new = replay.refresh(ring, jnp.array([2]), jnp.array([[0.25, 0.75]]), jnp.array([-1.0]))
    np.testing.assert_allclose(new.rows.value[:, 0], [10, 20, -1, 40])
    np.testing.assert_allclose(new.rows.policy[2, 0], [0.25, 0.75])
    np.testing.assert_array_equal(new.weight, ring.weight)
    for name in ("observation", "action", "reward", "terminated", "last"):
        np.testing.assert_array_equal(getattr(new.rows, name), getattr(ring.rows, name))


def test_distinct_draws_are_distinct_and_cover_the_written_rows_evenly():
    ring = filled([1, 2, 3, 4, 5], length=10, lanes=2)
    keys = jax.random.split(jax.random.key(0), 4000)
    index = np.asarray(jax.vmap(lambda k: replay.draw_distinct(k, ring, 4))(keys))
    assert all(len(set(row)) == 4 for row in index.tolist())
    np.testing.assert_allclose(frequencies(index.ravel(), 10), 0.1, atol=0.01)


def test_surplus_draws_lie_beyond_the_ring_and_change_nothing():
    ring = filled([1, 2, 3], length=10)
    index = np.asarray(replay.draw_distinct(jax.random.key(0), ring, 8))
    assert sorted(index[index < 10].tolist()) == [0, 1, 2]
    assert (index[index >= 10] == 10).sum() == 5
    new = replay.refresh(ring, jnp.asarray(index), jnp.ones((8, 2)), jnp.full(8, 7.0))
    np.testing.assert_allclose(new.rows.value[:, 0], [7, 7, 7] + [0] * 7)
    empty = replay.draw_distinct(jax.random.key(0), ring._replace(written=jnp.int32(0)), 8)
    assert (np.asarray(empty) == 10).all()


@pytest.mark.parametrize("appended", [3, 9, 12, 30])
def test_frames_kept_once_give_the_stacks_that_were_seen(appended):
    """Against whole stacks kept beside them: games that begin at any row, and the ring's edges."""
    rng, lanes, length, stack = np.random.default_rng(appended), 2, 9, 4
    example = filled([0.0], lanes=1).rows._replace(observation=jnp.zeros((), jnp.uint8))
    example = jax.tree.map(lambda x: x[0, 0] if x.ndim else x, example)
    ring = replay.create(example._replace(age=jnp.int8(0)), length, lanes, stack)
    assert ring.rows.observation.shape[0] == length + stack - 1
    row = filled([0.0], lanes=lanes).rows
    row = jax.tree.map(lambda x: x[0], row)
    seen = np.zeros((lanes, stack), np.uint8)
    age = np.zeros(lanes, np.int8)
    stacks = []
    indices = jnp.arange(length * lanes)
    recall_all = jax.jit(lambda ring: jax.vmap(lambda i: replay.recall(ring, i))(indices))
    for i in range(appended):
        for lane in range(lanes):
            fresh, frame = i == 0 or rng.uniform() < 0.3, rng.integers(1, 256)
            seen[lane] = frame if fresh else [*seen[lane, 1:], frame]
            age[lane] = 0 if fresh else min(age[lane] + 1, stack - 1)
        stacks.append(seen.copy())
        kept = row._replace(observation=jnp.asarray(seen[:, -1]), age=jnp.asarray(age))
        begun = replay.begin(ring, kept.observation)
        shown = np.asarray(recall_all(begun)).reshape(length, lanes, stack)
        for j in range(max(0, i - length + 1), i):  # all but the row that is being replaced
            np.testing.assert_array_equal(shown[j % length], stacks[j])
        ring = replay.finish(begun, kept._replace(observation=jnp.zeros(lanes, jnp.uint8)))
    for i in range(max(0, appended - length), appended):
        for lane in range(lanes):
            index = (i % length) * lanes + lane
            np.testing.assert_array_equal(replay.recall(ring, jnp.int32(index)), stacks[i][lane])
    last = replay.recall(ring, jnp.int32(length * lanes - 1))
    np.testing.assert_array_equal(replay.recall(ring, jnp.int32(length * lanes)), last)


def test_the_bytes_of_a_ring_are_counted():
    ring = filled([0.0], length=10, lanes=3)
    per_row = 4 + 4 + 4 + 1 + 1 + 8 + 4 + 4  # with the row's weight
    assert room.nbytes(ring) == 30 * per_row + 4
