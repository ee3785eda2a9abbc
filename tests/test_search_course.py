"""Figure 6 of models with errors of known size."""

import numpy as np
import pytest
from tabular import REWARD, perfect_agent
from value_error_by_hand import GAMMA, HORIZON, bench_of

from muscope import statistics
from muscope.experiments import search_course
from muscope.experiments.search_course import SearchCourse

BIAS = 0.25


@pytest.fixture(scope="module")
def bench():
    """A perfect model, and at step 4 one whose every reward is too high."""
    agents = [perfect_agent(), perfect_agent(reward=REWARD + BIAS)]
    return bench_of(agents, temperature=1.0)


@pytest.mark.parametrize(("step", "bias"), [(0, 0.0), (4, BIAS)])
def test_errors_along_the_search_are_the_biass_sum(bench, step, bias):
    given = search_course.run(bench, SearchCourse(simulations=6, horizon=HORIZON), step)
    error, path, tv = (
        statistics.means(given["figure6"], name, simulations=[1, 6])
        for name in ("error", "error_tree_path", "tv")
    )
    whole = bias * np.sum(GAMMA ** np.arange(HORIZON))
    np.testing.assert_allclose(error, whole, atol=2e-3)
    # The first simulation's tree path is one action, and later ones' are longer.
    np.testing.assert_allclose(path[:, 0], bias, atol=1e-3)
    assert np.all(path[:, 1] > 1.2 * bias - 1e-3)
    assert np.all(path[:, 1] < whole + 1e-3)
    # One visit of two actions: pi_hat = (1/3, 2/3), and the prior is uniform.
    np.testing.assert_allclose(tv[:, 0], 1 / 6, rtol=1e-5)
    assert search_course.plot(given).axes[0].get_title() == f"{step} steps"
    assert "6 states; means over 2 agents" in search_course.caption(given)
