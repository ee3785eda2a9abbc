"""Known answers."""

import math

import numpy as np
import pytest

from muscope.statistics import over_agents


def test_aggregation_is_within_an_agent_first():
    """Agent 0 has three observations, agent 1 one: their means weigh the same."""
    summary = over_agents([0, 0, 0, 1], [1.0, 2.0, 3.0, 6.0])
    assert summary.mean == 4.0
    assert summary.standard_error == pytest.approx(math.sqrt(8) / math.sqrt(2))
    assert summary.n == 2


def test_one_agent_has_no_standard_error():
    summary = over_agents([3, 3], [1.0, 2.0])
    assert summary.mean == 1.5
    assert math.isnan(summary.standard_error)


def test_the_standard_error_covers_the_true_mean_as_often_as_it_should():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        means = rng.normal(size=30)
        agent = np.repeat(np.arange(30), 4)
        summary = over_agents(agent, np.repeat(means, 4))
        covered += abs(summary.mean) < 2.045 * summary.standard_error  # t, 29 degrees, 95 %
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)
