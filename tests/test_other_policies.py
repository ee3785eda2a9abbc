"""Figure 5 where every number is known."""

import numpy as np
import pyarrow as pa
import pytest
from tabular import REWARD
from value_error_by_hand import (
    COLD,
    HORIZON,
    WRONG,
    bench_of,
    closed_form,
    greedy_table,
    random_agent,
    walk,
)

from muscope.experiments import other_policies, own_policy
from muscope.experiments.other_policies import OtherPolicies
from muscope.experiments.own_policy import OwnPolicy


def test_it_is_its_closed_form_and_its_diagonal_is_figure_3():
    """Two checkpoints with other models and other deterministic policies."""
    models = [WRONG, REWARD + 0.1]
    agents = [random_agent(4, models[0]), random_agent(5, models[1])]
    bench = bench_of(agents, COLD)
    actions_of = [greedy_table(bench, agent) for agent in agents]
    assert (actions_of[0] != actions_of[1]).any()
    for x in (0, 1):
        table = other_policies.run(bench, OtherPolicies(sequences=8), 4 * x)["figure5"]
        starts = np.asarray(bench.on_policy(4 * x).states.index[0])
        for y in (0, 1):
            expected = np.mean(
                [abs(closed_form(s, walk(s, actions_of[y]), models[x])[-1]) for s in starts]
            )
            row = table.to_pylist()[y]
            assert (row["agent"], row["model_step"], row["policy_step"]) == (0, 4 * x, 4 * y)
            assert row["error"] == pytest.approx(expected, abs=5e-4)
        own = own_policy.run(bench, OwnPolicy(sequences=8), 4 * x)["figure3"]
        for name in ("error", "squared_error", "squared_noise"):
            assert table.to_pylist()[x][name] == own.to_pylist()[HORIZON - 1][name]


def test_a_tied_diagonal_is_not_the_minimum():
    errors = np.array([[[1.0, 2.0], [3.0, 3.0]]])
    np.testing.assert_array_equal(other_policies.is_least(errors), [[True, False]])


def test_the_matrix_has_models_in_rows_whatever_the_tables_order():
    bench = bench_of([random_agent(4, WRONG), random_agent(5, REWARD + 0.1)], COLD)
    parts = [other_policies.run(bench, OtherPolicies(sequences=2), step) for step in (4, 0)]
    late, early = (part["figure5"] for part in parts)
    steps, errors = other_policies.matrices(pa.concat_tables([late, early]))
    assert steps == [0, 4]
    assert errors.shape == (2, 2, 2)
    np.testing.assert_array_equal(errors[0, 1], late["error"].to_numpy()[:2])
    np.testing.assert_array_equal(errors[1, 0], early["error"].to_numpy()[2:])
