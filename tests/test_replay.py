"""Prioritised replay against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_targets import filled

from muscope.learning import replay


def frequencies(index, size):
    return np.bincount(np.asarray(index), minlength=size) / len(index)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_rows_are_drawn_in_proportion_to_priority_to_the_alpha(alpha):
    rng = np.random.default_rng(0)
    priority = rng.uniform(0.1, 5.0, size=(100, 3)).astype(np.float32)
    priority[rng.uniform(size=priority.shape) < 0.3] = 0
    index, _ = replay.draw(jax.random.key(0), jnp.asarray(priority), 200_000, alpha, 0.4)
    expected = np.where(priority > 0, priority.astype(np.float64) ** alpha, 0).ravel()
    expected /= expected.sum()
    np.testing.assert_allclose(frequencies(index, 300), expected, atol=6e-4)
    assert (frequencies(index, 300)[expected == 0] == 0).all()


def test_importance_weights_equal_their_formula():
    priority = jnp.asarray([[1.0], [4.0], [0.0], [9.0]])
    index, weight = replay.draw(jax.random.key(1), priority, 64, 0.5, 0.7)
    p = np.array([1, 2, 0, 3]) / 6
    raw = (3 * p[np.asarray(index)]) ** -0.7
    np.testing.assert_allclose(weight, raw / raw.max(), rtol=1e-5)
    assert set(np.asarray(index).tolist()) == {0, 1, 3}


def test_a_row_of_priority_zero_is_never_drawn():
    """One positive row among 100,000, huge and tiny ones beside each other."""
    for position in (0, 127, 128, 99_999):
        priority = jnp.zeros((100_000, 1)).at[position].set(1e-3)
        index, _ = replay.draw(jax.random.key(2), priority, 1000, 1.0, 1.0)
        assert (np.asarray(index) == position).all()
    rng = np.random.default_rng(0)
    mixed = 10.0 ** rng.uniform(-6, 6, size=(40_000, 1)) * (rng.uniform(size=(40_000, 1)) < 0.01)
    index, _ = replay.draw(jax.random.key(3), jnp.asarray(mixed, jnp.float32), 100_000, 1.0, 1.0)
    assert (mixed.ravel()[np.asarray(index)] > 0).all()


def test_new_rows_get_the_greatest_priority_and_overwritten_ones_lose_theirs():
    ring = filled([1, 2, 3], length=4)
    np.testing.assert_array_equal(ring.priority[:, 0], [1, 1, 1, 0])
    ring = ring._replace(
        priority=replay.reprioritise(ring.priority, jnp.array([0, 1]), jnp.array([7.0, 0.5]))
    )
    row = jax.tree.map(lambda x: x[2], ring.rows)
    ring = replay.append(ring, row)
    np.testing.assert_array_equal(ring.priority[:, 0], [7, 0.5, 1, 7])
    ring = replay.append(replay.append(ring, row), row)
    np.testing.assert_array_equal(ring.priority[:, 0], [7, 7, 1, 7])


def test_refreshing_a_row_replaces_its_search_and_nothing_else():
    ring = filled([1, 2, 3, 4])
    ring = ring._replace(priority=jnp.asarray([[1.0], [2.0], [3.0], [4.0]]))
    new = replay.refresh(ring, jnp.array([2]), jnp.array([[0.25, 0.75]]), jnp.array([-1.0]))
    np.testing.assert_allclose(new.rows.value[:, 0], [10, 20, -1, 40])
    np.testing.assert_allclose(new.rows.policy[2, 0], [0.25, 0.75])
    np.testing.assert_array_equal(new.priority, ring.priority)
    for name in ("observation", "action", "reward", "terminated", "last"):
        np.testing.assert_array_equal(getattr(new.rows, name), getattr(ring.rows, name))


def test_uniform_draws_cover_the_written_rows_only():
    ring = filled([1, 2, 3], length=10, lanes=2)
    index = replay.draw_uniform(jax.random.key(0), ring, 5000)
    np.testing.assert_allclose(frequencies(index, 6), 1 / 6, atol=0.02)
