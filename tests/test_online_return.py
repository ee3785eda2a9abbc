"""Figure 2 from policies whose returns are known."""

import jax
import jax.numpy as jnp
import numpy as np
from tabular import TabularMDP, TabularState, optimal_q, perfect_agent
from value_error_by_hand import COLD, WRONG, bench_of, random_agent

from muscope import statistics
from muscope.config import SearchConfig
from muscope.envs import CartPole
from muscope.evaluation.play import GREEDY, muzero_policy, play, prior_policy
from muscope.experiments import online_return
from muscope.experiments.lab import row_settings
from muscope.experiments.online_return import SCHEMA, OnlineReturn
from muscope.storage import tables


def test_a_fixed_policy_scores_what_gymnasium_gives():
    """Always pushing right: every episode falls after 8 to 10 steps."""
    scores = play(CartPole(), lambda s, k: jnp.ones(50, jnp.int32), 50, jax.random.key(0))
    assert set(np.asarray(scores.length).tolist()) <= {8, 9, 10, 11}
    np.testing.assert_array_equal(scores.score, scores.length)


def test_a_balancing_policy_reaches_the_time_limit():
    def balance(state, key):
        x = state.physics
        return (0.1 * x[:, 0] + 0.3 * x[:, 1] + 3 * x[:, 2] + x[:, 3] > 0).astype(jnp.int32)

    scores = play(CartPole(), balance, 20, jax.random.key(0))
    np.testing.assert_array_equal(scores.score, 500)
    np.testing.assert_array_equal(scores.length, 500)


def test_mcts_with_a_perfect_model_collects_the_optimal_return():
    """From every start state the greedy search follows Q*; the prior is uniform."""
    environment, discount = TabularMDP(), 0.5
    q = optimal_q(discount)
    agent = perfect_agent(value=q.max(axis=1))
    config = SearchConfig(simulations=60)
    policy = muzero_policy(environment, agent, config, discount, GREEDY)
    scores = play(environment, policy, 16, jax.random.key(3))
    states = jax.vmap(environment.reset)(
        jax.random.split(jax.random.split(jax.random.key(3))[0], 16)
    ).index
    expected = []
    for s in np.asarray(states):
        total, steps = 0.0, 0
        while s != 4 and steps < environment.spec.time_limit:
            moved = environment.step(TabularState(jnp.int32(s)), int(np.argmax(q[s])))
            total, s, steps = total + float(moved.reward), int(moved.state.index), steps + 1
        expected.append(total)
    np.testing.assert_allclose(scores.score, expected, rtol=1e-5)
    uniform = play(environment, prior_policy(environment, agent), 16, jax.random.key(3))
    assert float(scores.score.mean()) > float(uniform.score.mean())


def test_rows_are_both_policies_episodes_agent_by_agent():
    """Agents' rows stand together, MCTS first, and are those of the on-policy episodes."""
    bench = bench_of([random_agent(0, WRONG)], COLD)
    table = online_return.run(bench, OnlineReturn(), 0)["figure2"]
    scores = bench.on_policy(0).scores
    assert table.num_rows == 2 * 2 * 8
    for agent in (0, 1):
        mcts, prior = (table.slice(16 * agent + first, 8) for first in (0, 8))
        assert mcts["agent"].to_pylist() == prior["agent"].to_pylist() == [agent] * 8
        assert mcts["episode"].to_pylist() == prior["episode"].to_pylist() == list(range(8))
        np.testing.assert_array_equal(mcts["return"], scores.score[agent])
        np.testing.assert_array_equal(mcts["length"], scores.length[agent])
        assert set(mcts["temperature"].to_pylist()) == {COLD}
        assert set(prior["policy"].to_pylist()) == {"prior"}
        assert set(prior["temperature"].to_pylist()) == {1.0}


def test_the_figure_is_a_pure_function_of_the_table():
    """Two agents with known returns: lines at their mean, bands of their standard error."""
    columns = {name: [] for name in SCHEMA.names}
    for agent in (0, 1):
        for step in (0, 500):
            for policy, offset in (("mcts", 100.0), ("prior", 0.0)):
                for episode in range(3):
                    score = offset + step + 10 * agent + episode - 1
                    row = (agent, step, policy, episode, score, 1, 1.0)
                    for name, value in zip(SCHEMA.names, row, strict=True):
                        columns[name].append(value)
    bench = bench_of([random_agent(0, WRONG)], COLD)
    settings = row_settings(bench.subject, bench.evaluate, OnlineReturn())
    table = tables.make(SCHEMA, columns, settings)
    steps, points = statistics.curve(table, "return", "step", policy="mcts")
    assert [(s, x.mean, x.standard_error, x.n) for s, x in zip(steps, points, strict=True)] == [
        (0, 105.0, 5.0, 2),
        (500, 605.0, 5.0, 2),
    ]
    axes = online_return.plot({"figure2": table}).axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert {name: list(y) for name, y in drawn.items()} == {
        "MCTS": [105.0, 605.0],
        "policy prior": [5.0, 505.0],
    }
    assert "over 2 agents, 3 episodes each" in online_return.caption({"figure2": table})
