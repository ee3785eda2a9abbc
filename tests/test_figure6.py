"""Figure 6 and the decisions, of models with errors of known size."""

import numpy as np
import pytest
from tabular import TabularMDP, decode

from muscope import statistics
from muscope.agent import TrueModel
from muscope.config import EvaluateConfig, SearchConfig
from muscope.experiments import decisions, search_course
from muscope.experiments.decisions import Deciding
from muscope.experiments.lab import Lab
from muscope.experiments.search_course import SearchCourse
from muscope.subjects import subject

BIAS, GAMMA, HORIZON = 0.25, 0.9, 4
WHOLE = BIAS * np.sum(GAMMA ** np.arange(HORIZON))
"""A biased model's error along any H actions."""


@pytest.fixture(scope="module")
def block():
    """A perfect agent, and one whose every reward is too high."""
    environment = TabularMDP()
    agents = [TrueModel(environment, decode, reward_bias=bias) for bias in (0.0, BIAS)]
    given = subject(agents, environment, discount=GAMMA, search=SearchConfig(simulations=2))
    return Lab(given, EvaluateConfig(episodes=2, states=5)).block((0, 1))


def test_errors_along_the_search_are_0_or_the_biass_sum(block):
    settings = SearchCourse(simulations=6, horizon=HORIZON)
    given = search_course.run(block, settings, 0)
    error, path, tv = (
        statistics.means(given["figure6"], name, simulations=[1, 6])
        for name in ("error", "error_tree_path", "tv")
    )
    np.testing.assert_allclose(error, [[0.0, 0.0], [WHOLE, WHOLE]], atol=1e-5)
    # The first simulation's tree path is one action; later ones' are longer.
    np.testing.assert_allclose(path[:, 0], [0.0, BIAS], atol=1e-5)
    assert BIAS < path[1, 1] < WHOLE
    # One visit of two actions: pi_hat = (1/3, 2/3), the prior is uniform.
    np.testing.assert_allclose(tv[:, 0], 1 / 6, rtol=1e-5)
    assert search_course.plot(given).axes[0].get_title() == "0 steps"
    assert "5 states; means over 2 agents" in search_course.caption(given)


def test_decisions_know_the_models_error(block):
    settings = Deciding(simulations=6, horizon=HORIZON, q_horizon=5, sequences=4)
    given = decisions.run(block, settings, 0)
    error = statistics.means(given["decisions"], "model_error", state=range(5))
    np.testing.assert_allclose(error, [[0.0] * 5, [WHOLE] * 5], atol=1e-5)
    assert len(decisions.plot(given).axes) == 2
    assert "5 on-policy states and 2 agents" in decisions.caption(given)
