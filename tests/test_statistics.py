"""Known answers, from tables and without."""

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from muscope import statistics
from muscope.statistics import over_agents

NAN = float("nan")
TABLE = pa.table(
    {
        "agent": [1, 0, 0, 0, 1, 0, 0],
        "step": [0, 0, 0, 0, 500, 500, 500],
        "policy": ["mcts", "mcts", "mcts", "mcts", "prior", "prior", "prior"],
        "return": [6.0, 1.0, 2.0, 3.0, NAN, NAN, 4.0],
    }
)


def test_aggregation_is_within_an_agent_first():
    """Agent 0 has three observations, agent 1 one: their means weigh the same."""
    summary = statistics.summary(TABLE, "return", step=0)
    assert summary.mean == 4.0
    assert summary.standard_error == pytest.approx(math.sqrt(8) / math.sqrt(2))
    assert summary.n == 2


def test_what_was_not_observed_does_not_enter_a_mean():
    steps, points = statistics.curve(TABLE, "return", "step")
    assert steps.tolist() == [0, 500]
    assert (points[1].mean, points[1].n) == (4.0, 1)
    nobody = statistics.summary(TABLE, "return", step=500, agent=1)
    assert nobody.n == 0
    assert math.isnan(nobody.mean)


def test_cells_stand_at_their_agents_and_values():
    cells = statistics.means(TABLE, "return", [1, 0, 7], policy=["prior", "mcts"])
    np.testing.assert_array_equal(cells, [[NAN, 6.0], [4.0, 2.0], [NAN, NAN]])
    assert statistics.values(TABLE, "policy") == ["mcts", "prior"]
    assert statistics.first(TABLE, "agent") == 1
    assert statistics.rows(TABLE, agent=0, step=[500]).num_rows == 2


def test_one_agent_has_no_standard_error():
    summary = over_agents([1.5])
    assert summary.mean == 1.5
    assert math.isnan(summary.standard_error)


def test_the_standard_error_covers_the_true_mean_as_often_as_it_should():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        summary = over_agents(rng.normal(size=30))
        covered += abs(summary.mean) < 2.045 * summary.standard_error  # t, 29 degrees, 95 %
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_bands_narrow_with_the_square_root_of_the_population():
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(300):
        values = rng.normal(size=48)
        half, whole = over_agents(values[:24]), over_agents(values)
        ratios.append(whole.standard_error / half.standard_error)
    np.testing.assert_allclose(np.mean(ratios), 1 / np.sqrt(2), rtol=0.03)


def test_spearman_equals_scipys_with_ties_and_is_nan_without_order():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (6, 40)), rng.normal(size=(6, 40))
    y[:, :10] = 0.0
    correlation = statistics.spearman(x.astype(float), y)
    expected = [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(correlation, expected)
    assert np.isnan(statistics.spearman(np.ones((1, 4)), rng.normal(size=(1, 4)))).all()
