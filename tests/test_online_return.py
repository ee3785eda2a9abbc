"""Figure 2 from policies whose returns are known."""

import jax
import jax.numpy as jnp
import numpy as np
from tabular import TabularMDP, TabularState, optimal_q, perfect_agent
from value_error_by_hand import COLD, WRONG, bench_of, random_agent

from muscope import statistics
from muscope.config import SearchConfig
from muscope.envs import CartPole
from muscope.evaluation.play import GREEDY, muzero_policy, play, prior_logits, prior_policy
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


def test_rows_are_all_policies_episodes_agent_by_agent():
    """Agents' rows stand together, MCTS first, and are those of the on-policy episodes."""
    bench = bench_of([random_agent(0, WRONG)], COLD)
    table = online_return.run(bench, OnlineReturn(), 0)["figure2"]
    scores = bench.on_policy(0).scores
    assert table.num_rows == 2 * 3 * 8
    for agent in (0, 1):
        parts = [table.slice(24 * agent + first, 8) for first in (0, 8, 16)]
        mcts = parts[0]
        np.testing.assert_array_equal(mcts["return"], scores.score[agent])
        np.testing.assert_array_equal(mcts["length"], scores.length[agent])
        for part, policy, temperature in zip(
            parts, ("mcts", "prior", "prior_tempered"), (COLD, 1.0, COLD), strict=True
        ):
            assert part["agent"].to_pylist() == [agent] * 8
            assert part["episode"].to_pylist() == list(range(8))
            assert set(part["policy"].to_pylist()) == {policy}
            assert set(part["temperature"].to_pylist()) == {temperature}


def test_the_prior_keeps_its_bits_and_the_tempered_one_has_its_own_stream():
    """The plain prior's episodes are those of its key; at T = 1 the tempered one acts alike, in
    other episodes.
    """
    bench = bench_of([random_agent(3, WRONG)], 1.0)
    table = online_return.run(bench, OnlineReturn(), 0)["figure2"]
    agent = jax.tree.map(lambda x: x[0], bench.at(0))
    key = bench.keys(0, online_return.STREAM)[0]
    environment = bench.scope.environment
    for policy, episodes_key in (
        ("prior", key),
        ("prior_tempered", jax.random.fold_in(key, online_return.TEMPERED)),
    ):
        alone = play(environment, prior_policy(environment, agent), 8, episodes_key)
        rows = statistics.rows(table, agent=0, policy=policy)
        np.testing.assert_array_equal(rows["return"], alone.score)


def test_a_cold_prior_is_the_greedy_one():
    """pi to the power of 1 / T: at a low T the likeliest action in each state, at T = 1 pi."""
    environment, agent = TabularMDP(), random_agent(1, WRONG)
    states = TabularState(jnp.repeat(jnp.arange(5), 2000))
    best = np.argmax(prior_logits(environment, agent, states), axis=1)
    np.testing.assert_array_equal(
        prior_policy(environment, agent, COLD)(states, jax.random.key(0)), best
    )
    half = np.asarray(prior_policy(environment, agent, 0.5)(states, jax.random.key(0)))
    squared = jax.nn.softmax(prior_logits(environment, agent, states)[::2000], axis=-1) ** 2
    expected = squared[:, 1] / squared.sum(axis=1)
    np.testing.assert_allclose(half.reshape(5, -1).mean(axis=1), expected, atol=0.05)


def test_the_figure_is_a_pure_function_of_the_table():
    """Two agents with known returns: lines at their mean, bands of their standard error."""
    columns = {name: [] for name in SCHEMA.names}
    for agent in (0, 1):
        for step in (0, 500):
            for policy, offset in (("mcts", 100.0), ("prior", 0.0), ("prior_tempered", 50.0)):
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
        "prior at MCTS's T": [55.0, 555.0],
    }
    caption = online_return.caption({"figure2": table})
    assert "over 2 agents, 3 episodes each" in caption
    assert "Thin: the prior" in caption
    older = {"figure2": statistics.rows(table, policy=["mcts", "prior"])}
    assert len(online_return.plot(older).axes[0].lines) == 2
    assert "Thin" not in online_return.caption(older)
