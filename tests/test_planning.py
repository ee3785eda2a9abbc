"""Figure 7's tables and picture, of an agent whose model is the true one."""

import jax.numpy as jnp
import numpy as np
import pyarrow.compute as pc
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from value_error_by_hand import bench_of, decode

from muscope import ConfigError, statistics
from muscope.agent import Prediction, TrueModel
from muscope.config import SearchConfig
from muscope.config.base import from_dict
from muscope.envs import CartPole
from muscope.experiments import decisions, planning, search_course
from muscope.experiments.planning import Planning
from muscope.subjects import subject

MOVES = 100


def lean(state):
    """Slightly rather the push under the falling pole: always made it balances, drawn it falls."""
    _, _, angle, velocity = state.physics
    return Prediction(jnp.where(3 * angle + velocity > 0, 0.01, -0.01) * jnp.array([-1, 1]), 0.0)


@pytest.fixture(scope="module")
def rows():
    """Two checkpoints of two agents, episodes bounded."""
    environment = CartPole()
    agent = TrueModel(environment, decode, lean)
    bench = bench_of([agent, agent], temperature=1.0, environment=environment)
    settings = Planning(simulations=(1, 3), horizon=4, steps=MOVES, episodes=3)
    parts = [planning.EXPERIMENT.run(bench, settings, step)["figure7"] for step in (0, 4)]
    return parts


def test_figure_7_counts_the_first_moves_only(rows):
    """With a bound on moves, returns are of those moves, here one each."""
    assert set(rows[0]["most_steps"].to_pylist()) == {MOVES}
    assert max(rows[0]["length"].to_pylist()) == MOVES
    np.testing.assert_array_equal(rows[0]["return"].to_numpy(), rows[0]["length"].to_numpy())


def test_baselines_are_told_apart(rows):
    """The greedy prior balances, the sampled one falls."""
    lengths = {
        prior: statistics.rows(rows[0], prior=prior)["length"].to_numpy()
        for prior in ("sampled", "greedy")
    }
    assert max(lengths["sampled"]) < MOVES
    assert min(lengths["greedy"]) == MOVES


def test_every_checkpoint_starts_alike_and_every_planner_has_its_rows(rows):
    """The same agents at two checkpoints play the same episodes; model, leaf, budget, prior."""
    assert rows[0].drop_columns(["step"]) == rows[1].drop_columns(["step"])
    combinations = rows[0].group_by(["agent", "model", "leaf", "simulations", "prior"])
    counts = combinations.aggregate([("episode", "count")])
    assert counts.num_rows == 2 * (2 + 2 * 2 * 2 * 2)
    assert set(counts["episode_count"].to_pylist()) == {3}


def test_a_true_learned_model_plans_as_the_truth_does(rows):
    """Learned and true planners of TrueModel draw the same random numbers."""
    learned, true = (statistics.rows(rows[0], model=model) for model in ("learned", "true"))
    assert learned.drop_columns(["model"]) == true.drop_columns(["model"])


def test_the_legend_lies_within_the_picture(rows):
    """However many panels there are."""
    one_leaf = rows[0].filter(pc.field("leaf") != "value")
    for given in (rows[0], one_leaf):
        figure = planning.plot({"figure7": given})
        FigureCanvasAgg(figure).draw()
        legend = figure.legends[0].get_window_extent()
        assert legend.x0 >= 0
        assert legend.x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    "wrong",
    [
        {"simulations": []},
        {"simulations": [4, 1]},
        {"simulations": [4, 4]},
        {"simulations": [0, 4]},
        {"leaves": []},
        {"leaves": ["guess"]},
        {"leaves": ["value", "value"]},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=rf"figure7\.{next(iter(wrong))}"):
        from_dict(wrong, Planning)


@pytest.mark.parametrize(
    ("experiment", "few"),
    [
        (search_course.EXPERIMENT, 8),
        (planning.EXPERIMENT, (1, 8)),
        (decisions.EXPERIMENT, 8),
    ],
)
def test_trees_too_deep_for_the_discount_are_refused(experiment, few):
    """2^16 is beyond 10^4, 2^8 is not; a tree is no deeper than it has simulations."""
    environment = CartPole()
    shallow = SearchConfig(simulations=8)
    given = subject(TrueModel(environment, decode), environment, discount=0.5, search=shallow)
    with pytest.raises(ConfigError, match=rf"{experiment.name}\.horizon"):
        experiment.check(given, experiment.settings(horizon=16))
    experiment.check(given, experiment.settings(horizon=8))
    experiment.check(given, experiment.settings(horizon=16, simulations=few))
