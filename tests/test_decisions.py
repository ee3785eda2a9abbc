"""The worth of decisions: known values, and what the table says of a model of known error."""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr
from tabular import NEXT, REWARD, TabularMDP, TabularState, perfect_agent
from value_error_by_hand import GAMMA, HORIZON, bench_of

from muscope.evaluation.decisions import action_values, best_value, value_of
from muscope.experiments import decisions
from muscope.experiments.decisions import PLANNERS, Deciding


def test_action_values_are_exact_for_a_deterministic_prior():
    """After the action the prior always takes action 0: 0 -> 1 -> 2 -> 2, 3 -> 3."""
    logits = np.tile([40.0, -40.0], (5, 1))
    q = action_values(
        TabularMDP(),
        perfect_agent(logits=logits),
        TabularState(jnp.arange(4)),
        jax.random.key(0),
        4,
        4,
        GAMMA,
    )
    assert q.shape == (4, 4, 2)
    q = q.mean(axis=0)
    for state in range(4):
        for action in (0, 1):
            place, total = NEXT[state, action], REWARD[state, action]
            for k in range(1, 5):
                total += GAMMA**k * REWARD[place, 0]
                place = NEXT[place, 0]
            np.testing.assert_allclose(q[state, action], total, rtol=1e-5)


def test_a_decisions_value_is_that_of_the_most_visited_actions():
    q = jnp.array([[1.0, 2.0, 6.0]])
    visits = jnp.array([[5.0, 1.0, 2.0], [3.0, 0.0, 3.0]])
    np.testing.assert_array_equal(value_of(jnp.tile(q, (2, 1)), visits), [1.0, 3.5])


def test_the_best_value_is_chosen_and_valued_on_different_episodes():
    noise = jax.random.normal(jax.random.key(0), (32, 4000, 2))
    assert abs(float(best_value(noise).mean())) < 0.01
    assert float(noise.mean(axis=0).max(axis=-1).mean()) > 0.08
    known = jnp.tile(jnp.array([[1.0, 3.0]]), (4, 5, 1))
    np.testing.assert_allclose(best_value(known), 3.0)


def test_fifths_are_made_within_each_agent():
    error = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 10.0, 11.0, 12.0, 13.0, 14.0])
    table = pa.table(
        {
            "agent": [0] * 5 + [1] * 5,
            "state": [*range(5), *range(5)],
            "step": [8] * 10,
            "model": ["true"] * 10,
            "prior": ["policy"] * 10,
            "model_error": error,
            "improvement": error % 10,
        }
    )
    errors, gains = decisions.by_error(table, 8, "true", "policy")
    np.testing.assert_allclose(errors, [5.0, 6.0, 7.0, 8.0, 9.0])
    np.testing.assert_allclose([g.mean for g in gains], [0.0, 1.0, 2.0, 3.0, 4.0])


def test_the_correlation_is_of_the_error_with_what_the_learned_model_loses():
    """Two agents with three states; the second loses nothing, so it has none."""
    error = [[1.0, 2.0, 4.0], [1.0, 2.0, 3.0]]
    learned, true = [[0.0, 1.0, -1.0], [1.0, 2.0, 3.0]], [[2.0, 1.0, 3.0], [1.0, 2.0, 3.0]]
    rows = [
        {
            "agent": agent,
            "step": 8,
            "state": state,
            "model": model,
            "prior": "policy",
            "model_error": error[agent][state],
            "improvement": gain[agent][state],
        }
        for model, gain in (("learned", learned), ("true", true))
        for agent in (1, 0)
        for state in (2, 0, 1)
    ]
    correlation = decisions.explained(pa.Table.from_pylist(rows), 8, "policy")
    np.testing.assert_allclose(correlation[0], spearmanr(error[0], [2.0, 0.0, 4.0]).statistic)
    assert np.isnan(correlation[1])


def test_the_table_knows_a_biased_models_error():
    """Along any H actions it is the bias's discounted sum."""
    bias = 0.25
    bench = bench_of([perfect_agent(reward=REWARD + bias)], temperature=1.0)
    settings = Deciding(simulations=6, horizon=HORIZON, q_horizon=5, sequences=4)
    given = decisions.run(bench, settings, 0)
    table = given["decisions"]
    whole = bias * np.sum(GAMMA ** np.arange(HORIZON))
    np.testing.assert_allclose(table["model_error"], whole, atol=2e-3)
    keys = [(r["agent"], r["model"], r["prior"], r["state"]) for r in table.to_pylist()]
    models, priors = ("learned", "true"), ("policy", "uniform")
    assert keys == [(a, m, p, s) for a in (0, 1) for m in models for p in priors for s in range(6)]
    assert len(decisions.plot(given).axes) == 2
    assert "6 on-policy states and 2 agents" in decisions.caption(given)


def test_at_a_single_checkpoint_planners_stand_apart_with_their_bars():
    rows = [
        {
            **{"agent": agent, "step": 8, "state": state, "model": model, "prior": prior},
            **{"model_error": 1.0 + state, "improvement": agent + state / 8.0, "best": 3.0},
        }
        for agent in range(2)
        for model, prior in decisions.PLANNERS
        for state in range(5)
    ]
    axes = decisions.plot({"decisions": pa.Table.from_pylist(rows)}).axes[0]
    bars = axes.containers
    assert [bar.get_label() for bar in bars] == [f"{m} model, {p} prior" for m, p in PLANNERS]
    assert len({float(bar.lines[0].get_xdata()[0]) for bar in bars}) == len(PLANNERS)
    looks = {(bar.lines[0].get_color(), bar.lines[0].get_markerfacecolor()) for bar in bars}
    assert len(looks) == len(PLANNERS)
    for bar in bars:
        ((low, high),) = bar.lines[2][0].get_segments()
        assert high[1] - low[1] == pytest.approx(2 * 0.5)  # Of 0.25 and 1.25.
    (best,) = (line for line in axes.get_lines() if line.get_label() == "best action")
    assert np.ptp(best.get_xdata()) > 0.5
