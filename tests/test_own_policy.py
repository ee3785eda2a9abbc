"""Figure 3 where every number is known."""

import numpy as np
import pyarrow as pa
import pytest
from tabular import NEXT
from value_error_by_hand import (
    COLD,
    GAMMA,
    HORIZON,
    WRONG,
    bench_of,
    by_hand,
    closed_form,
    greedy_table,
    policy_table,
    random_agent,
    walk,
)

from muscope.experiments import own_policy
from muscope.experiments.own_policy import OwnPolicy


def test_it_is_its_closed_form_for_a_deterministic_policy():
    agent = random_agent(0, WRONG)
    bench = bench_of([agent], COLD)
    table = own_policy.run(bench, OwnPolicy(sequences=8), 0)["figure3"]
    action_of = greedy_table(bench, agent)
    for i in (0, 1):
        starts = np.asarray(bench.on_policy(0).states.index[i])
        errors = np.array([np.abs(closed_form(s, walk(s, action_of), WRONG)) for s in starts])
        rows = table.slice(i * HORIZON, HORIZON)
        assert rows["agent"].to_pylist() == [i] * HORIZON
        assert rows["horizon"].to_pylist() == [1, 2, 3, 4]
        np.testing.assert_allclose(rows["error"], errors.mean(0), atol=3e-4)
        np.testing.assert_allclose(rows["absolute_error"], errors.mean(0), atol=3e-4)
        np.testing.assert_allclose(rows["squared_error"], (errors**2).mean(0), atol=2e-3)
        np.testing.assert_allclose(rows["standard_error"], 0.0, atol=1e-5)
        np.testing.assert_allclose(rows["squared_noise"], 0.0, atol=1e-4)
        np.testing.assert_allclose(
            rows["states_error"], errors.std(0, ddof=1) / np.sqrt(len(starts)), atol=3e-4
        )
        rewards = np.array([by_hand(s, walk(s, action_of))[0] for s in starts])
        wrong = np.array([by_hand(s, walk(s, action_of), WRONG)[0] for s in starts])
        np.testing.assert_allclose(rows["reward_error"], np.abs(rewards - wrong).mean(0), atol=3e-4)
        powers = GAMMA ** np.arange(HORIZON)
        naive = np.abs(np.cumsum((rewards - rewards.mean()) * powers, axis=1)).mean(0)
        np.testing.assert_allclose(rows["average_reward_error"], naive, atol=1e-4)
        np.testing.assert_allclose(rows["spread"], 0.0, atol=1e-5)


def expectations(bench, agent, start, temperature, reward):
    """E[v - v_hat] and E|v - v_hat| at h over all sequences, by Equation 6."""
    policy = policy_table(bench, agent, temperature)
    mean, absolute = 0.0, 0.0
    for number in range(2**HORIZON):
        actions = [(number >> bit) & 1 for bit in range(HORIZON)]
        probability, s = 1.0, start
        for action in actions:
            probability *= policy[s, action]
            s = NEXT[s, action]
        difference = closed_form(start, actions, reward)[-1]
        mean += probability * difference
        absolute += probability * abs(difference)
    return mean, absolute


def test_it_converges_to_the_exact_expectation():
    """A stochastic policy: Definition 2 and Definition 1 within Monte Carlo error."""
    agent = random_agent(1, WRONG)
    bench = bench_of([agent], 1.0, states=5)
    row = own_policy.run(bench, OwnPolicy(sequences=4000), 0)["figure3"].to_pylist()[HORIZON - 1]
    starts = np.asarray(bench.on_policy(0).states.index[0])
    exact = [expectations(bench, agent, s, 1.0, WRONG) for s in starts]
    assert 0 < row["standard_error"] < 0.05
    assert row["error"] == pytest.approx(
        np.mean([abs(mean) for mean, _ in exact]), abs=3 * row["standard_error"]
    )
    assert row["absolute_error"] == pytest.approx(
        np.mean([absolute for _, absolute in exact]), abs=3 * row["standard_error"]
    )
    assert row["absolute_error"] > row["error"] + 0.02
    assert 0 < row["squared_noise"] < 0.1
    assert row["squared_error"] == pytest.approx(
        np.mean([mean**2 for mean, _ in exact]), abs=3 * row["squared_noise"]
    )


def test_twice_the_states_and_sequences_move_it_within_its_errors():
    agent = random_agent(2, WRONG)
    a, b = (
        own_policy.run(bench_of([agent], 1.0, states=states), OwnPolicy(sequences=4 * states), 0)[
            "figure3"
        ].to_pylist()[HORIZON - 1]
        for states in (16, 32)
    )
    noise = np.hypot(a["states_error"], b["states_error"]) + a["standard_error"]
    assert abs(a["error"] - b["error"]) < 3 * noise
    assert b["states_error"] == pytest.approx(a["states_error"] / np.sqrt(2), rel=0.5)
    assert b["standard_error"] == pytest.approx(a["standard_error"] / np.sqrt(2), rel=0.25)


def test_the_horizon_is_k_unless_it_is_set():
    bench = bench_of([random_agent(0, WRONG)], COLD)
    table = own_policy.run(bench, OwnPolicy(sequences=1, horizon=2), 0)["figure3"]
    assert table["horizon"].to_pylist() == [1, 2] * 2
    assert np.isnan(table["squared_error"]).all()  # One sequence has no halves.
    assert np.isnan(table["squared_noise"]).all()


def test_how_much_of_the_error_over_agents_is_of_states():
    """Three agents, whose mean errors have a standard deviation of 1 and 2 at two checkpoints."""
    table = pa.table(
        {
            "agent": [0, 0, 1, 1, 2, 2],
            "step": [1, 2] * 3,
            "error": [1.0, 1.0, 2.0, 3.0, 3.0, 5.0],
            "states_error": [0.3, 0.6] * 3,
        }
    )
    words = own_policy.states_beside_agents(table, step=[1, 2])
    # (1 + 2) / 2 / sqrt(3) and (0.3 + 0.6) / 2 / sqrt(3)
    assert "standard error over agents is 0.87 on average" in words
    assert "makes one of 0.26." in words
    assert own_policy.states_beside_agents(table.slice(0, 2), step=[1, 2]) == ""
