"""Targets against numbers worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from muscope.learning import replay, targets
from muscope.learning.replay import Rows

GAMMA = 0.5
K, N = 3, 2


def filled(rewards, terminated=(), last=(), values=None, lanes=1, length=None):
    """A ring with one lane's rows appended in order; observation i is [i], action i % 2."""
    example = Rows(
        observation=jnp.zeros(1),
        action=jnp.zeros((), jnp.int32),
        reward=jnp.zeros(()),
        terminated=jnp.array(False),
        last=jnp.array(False),
        policy=jnp.zeros(2),
        value=jnp.zeros(()),
    )
    ring = replay.create(example, length or len(rewards), lanes)
    for i, reward in enumerate(rewards):
        value = 10.0 * (i + 1) if values is None else values[i]
        ring = replay.append(
            ring,
            Rows(
                observation=jnp.full((lanes, 1), float(i)),
                action=jnp.full((lanes,), i % 2, jnp.int32),
                reward=jnp.full((lanes,), float(reward)),
                terminated=jnp.full((lanes,), i in terminated),
                last=jnp.full((lanes,), i in last),
                policy=jnp.tile(jnp.array([[i / 10, 1 - i / 10]]), (lanes, 1)),
                value=jnp.full((lanes,), float(value)),
            ),
        )
    return ring


def at(ring, index):
    window = targets.window(ring, jnp.int32(index), K + N + 1)
    return targets.make(window, K, N, GAMMA)


def test_inside_an_episode():
    t = at(filled([1, 2, 3, 4, 5, 6, 7, 8]), 0)
    # r_k + gamma r_{k+1} + gamma^2 v_{k+2}, with v_i = 10 (i + 1).
    np.testing.assert_allclose(t.value, [1 + 1 + 7.5, 2 + 1.5 + 10, 3 + 2 + 12.5, 4 + 2.5 + 15])
    np.testing.assert_allclose(t.reward, [1, 2, 3])
    np.testing.assert_array_equal(t.actions, [0, 1, 0])
    np.testing.assert_allclose(t.policy[:, 0], [0, 0.1, 0.2, 0.3])
    assert float(t.observation[0]) == 0.0
    for mask in (t.value_mask, t.reward_mask, t.policy_mask):
        assert (np.asarray(mask) == 1).all()


def test_past_a_termination_everything_is_zero_and_is_trained():
    t = at(filled([1, 2, 3, 4, 5, 6, 7, 8], terminated=[1]), 0)
    # Row 1's transition ends the episode: nothing follows, no bootstrap.
    np.testing.assert_allclose(t.value, [1 + 1, 2, 0, 0])
    np.testing.assert_allclose(t.value_mask, [1, 1, 1, 1])
    np.testing.assert_allclose(t.reward, [1, 2, 0])
    np.testing.assert_allclose(t.reward_mask, [1, 1, 1])
    np.testing.assert_allclose(t.policy_mask, [1, 1, 0, 0])


def test_a_truncation_bootstraps_and_hides_what_follows():
    t = at(filled([1, 2, 0, 4, 5, 6, 7, 8], last=[2]), 0)
    # Row 2 has no transition; its own v^MCTS = 30 stands for all that would follow.
    np.testing.assert_allclose(t.value[:3], [1 + 1 + 7.5, 2 + 15, 30])
    np.testing.assert_allclose(t.value_mask, [1, 1, 1, 0])
    np.testing.assert_allclose(t.reward_mask, [1, 1, 0])
    np.testing.assert_allclose(t.policy_mask, [1, 1, 1, 0])


def test_truncation_is_not_termination():
    """The same rows, cut or ended: a cut world goes on in the value target."""
    cut = at(filled([1, 1, 0, 1, 1, 1, 1, 1], last=[2]), 1)
    ended = at(filled([1, 1, 0, 1, 1, 1, 1, 1], terminated=[1]), 1)
    assert float(cut.value[0]) == 1 + GAMMA * 30
    assert float(ended.value[0]) == 1


def test_the_newest_row_is_a_boundary():
    ring = filled([1, 2, 3, 4], length=8)
    t = at(ring, 2)
    np.testing.assert_allclose(t.value[:2], [3 + 0.5 * 40, 40])
    np.testing.assert_allclose(t.value_mask, [1, 1, 0, 0])
    np.testing.assert_allclose(t.reward_mask, [1, 0, 0])


def test_a_termination_in_the_newest_row_is_known():
    t = at(filled([1, 2, 3, 4], terminated=[3], length=8), 2)
    np.testing.assert_allclose(t.value, [3 + 2, 4, 0, 0])
    np.testing.assert_allclose(t.reward_mask, [1, 1, 1])


def test_windows_cross_the_end_of_the_ring():
    # Ring of 6 holds rows 3..8; row 5 sits in slot 5, row 6 in slot 0.
    ring = filled([1, 2, 3, 4, 5, 6, 7, 8, 9], length=6)
    t = at(ring, 5)
    assert float(t.observation[0]) == 5.0
    np.testing.assert_allclose(t.reward, [6, 7, 8])
    # Row 8 is the newest: positions 2 and 3 bootstrap from its value, 90.
    np.testing.assert_allclose(t.value, [6 + 3.5 + 20, 7 + 4 + 22.5, 8 + 45, 90])
    np.testing.assert_allclose(t.value_mask, [1, 1, 1, 1])


@pytest.mark.parametrize("ends", [{"terminated": [1, 4]}, {"terminated": [1], "last": [4]}])
def test_a_second_episode_in_the_window_is_not_seen(ends):
    one_end = at(filled([1, 2, 3, 4, 5, 6, 7, 8], terminated=[1]), 0)
    two_ends = at(filled([1, 2, 3, 4, 5, 6, 7, 8], **ends), 0)
    for name in ("value", "value_mask", "reward", "reward_mask", "policy_mask"):
        np.testing.assert_array_equal(getattr(one_end, name), getattr(two_ends, name))
