"""Rewards around the true end of an episode, where every number is known."""

import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from muscope.evaluation.endings import profile
from muscope.evaluation.value_error import Rewards
from muscope.experiments import endings


def test_rewards_are_lined_up_at_the_true_end():
    """One sequence ends with its second step, one with its last, one goes on."""
    rewards = Rewards(
        true=jnp.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]),
        predicted=jnp.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4], [9.0, 9.0, 9.0]]),
        ended=jnp.array([[False, False, True], [False] * 3, [False] * 3]),
    )
    lined = profile(rewards, jnp.array([True, True, False]), 1.0)
    # Offsets -3, -2, -1, 0, 1, 2.
    np.testing.assert_array_equal(lined.sequences, [1, 2, 2, 1, 0, 0])
    np.testing.assert_allclose(
        lined.predicted_reward[:4], [0.6, (0.9 + 0.5) / 2, (0.8 + 0.4) / 2, 0.7], rtol=1e-6
    )
    np.testing.assert_allclose(lined.true_reward[:4], [1.0, 1.0, 1.0, 0.0])
    assert np.isnan(lined.predicted_reward[4:]).all()
    np.testing.assert_allclose(lined.ended, [2 / 3], rtol=1e-6)
    np.testing.assert_allclose(lined.ended_error, [0.7 / 3], rtol=1e-6)
    np.testing.assert_allclose(lined.alive_error, [(0.3 + 1.5 + 24.0) / 3], rtol=1e-6)


def test_the_caption_says_with_its_sign_what_is_predicted_after_the_end():
    """Of two sequences that end, one has a second step after it; the other agent has none."""
    rows = [
        {
            **{"agent": agent, "step": 8, "offset": offset, "predicted_reward": reward},
            **{"sequences": count, "ended": 0.5 * (not agent), "alive_error": 0.1},
        }
        for agent, offset, reward, count in (
            *((0, -1, 1.0, 2), (0, 0, -0.4, 2), (0, 1, -0.2, 1), (0, 2, np.nan, 0)),
            *((1, offset, np.nan, 0) for offset in (-1, 0, 1, 2)),
        )
    ]
    table = pa.Table.from_pylist(rows)
    after = endings.after_the_end(table, 8)
    np.testing.assert_allclose((after.mean, after.n), (-0.4 - 0.2 / 2, 1))
    assert "rewards of -0.5 in all after it" in endings.caption({"endings": table})
    none = table.filter(pa.array(table["agent"].to_numpy() == 1))
    assert "0% of the sequences end. Over" in endings.caption({"endings": none})
