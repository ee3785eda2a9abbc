"""Figure 2 from policies whose returns are known, and the stages around it."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from tabular import TabularMDP, optimal_q, perfect_agent

import muscope
from muscope.config import to_dict
from muscope.envs import CartPole
from muscope.errors import ConfigError, MuscopeError, RunError
from muscope.evaluation.play import GREEDY, muzero_policy, play, prior_policy
from muscope.experiments import figure2
from muscope.search import SearchConfig
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
            moved = environment.step(
                type(environment.reset(jax.random.key(0)))(jnp.int32(s)), int(np.argmax(q[s]))
            )
            total, s, steps = total + float(moved.reward), int(moved.state.index), steps + 1
        expected.append(total)
    np.testing.assert_allclose(scores.score, expected, rtol=1e-5)
    uniform = play(environment, prior_policy(environment, agent), 16, jax.random.key(3))
    assert float(scores.score.mean()) > float(uniform.score.mean())


@pytest.fixture(scope="module")
def studied(tmp_path_factory, module_tiny):
    """Figure 2 alone; the other figures have tests of their own."""
    run = muscope.train(module_tiny, tmp_path_factory.mktemp("study") / "run")
    muscope.evaluate(run, ["figure2"])
    muscope.report(run)
    return run


@pytest.fixture
def run(studied, tmp_path):
    """A copy of it."""
    shutil.copytree(studied.path, tmp_path / "run")
    return muscope.open_run(tmp_path / "run")


def test_the_table_has_its_schema_and_every_cell(run, tiny):
    table = tables.read(run.table_path("figure2"))
    assert table.column_names == [*figure2.SCHEMA, *tables.SETTINGS]
    assert table.num_rows == 3 * 2 * 2 * tiny.evaluate.episodes
    counts = table.group_by(["agent", "step", "policy"]).aggregate([([], "count_all")])
    assert counts.num_rows == 2 * 3 * 2
    assert set(counts["count_all"].to_pylist()) == {tiny.evaluate.episodes}
    row = table.to_pylist()[0]
    assert row["environment"] == "cart-pole"
    assert row["simulations"] == 4
    assert row["muscope"] == muscope.__version__
    lengths = table["length"].to_numpy()
    np.testing.assert_array_equal(table["return"].to_numpy(), lengths)
    assert ((lengths >= 8) & (lengths <= 500)).all()


def test_finished_cells_are_skipped_and_lost_ones_made_again(run):
    cells = sorted(run.path.glob("cells/figure2/*.parquet"))
    assert len(cells) == 3 * 2
    stamps = {c: c.stat().st_mtime_ns for c in cells}
    before = run.table_path("figure2").read_bytes()
    muscope.evaluate(run, ["figure2"])
    assert {c: c.stat().st_mtime_ns for c in cells} == stamps
    cells[1].unlink()
    cells[2].write_bytes(b"torn")
    run.table_path("figure2").unlink()
    muscope.evaluate(run, ["figure2"])
    assert cells[0].stat().st_mtime_ns == stamps[cells[0]]
    assert run.table_path("figure2").read_bytes() == before


def test_other_evaluation_settings_recompute_but_do_not_retrain(run, tiny):
    stamp = run.checkpoint_path(24).stat().st_mtime_ns
    more = dataclasses.replace(tiny, evaluate=dataclasses.replace(tiny.evaluate, episodes=3))
    again = muscope.train(more, run.path)
    muscope.evaluate(again, ["figure2"])
    assert tables.read(again.table_path("figure2")).num_rows == 3 * 2 * 2 * 3
    assert run.checkpoint_path(24).stat().st_mtime_ns == stamp


def test_evaluating_an_unfinished_run_is_refused(run):
    run.checkpoint_path(8).unlink()
    config = (run.path / "config.json").read_bytes()
    with pytest.raises(RunError, match=r"no checkpoint for training steps \[8\]"):
        muscope.evaluate(run)
    assert (run.path / "config.json").read_bytes() == config
    with pytest.raises(ConfigError, match="unknown experiment"):
        muscope.evaluate(run, ["figure22"])


def test_the_report_is_self_contained(run):
    page = run.report_path.read_text()
    for outside in ('src="http', 'href="http', "<script", "<link"):
        assert outside not in page
    assert page.count("data:image/svg+xml;base64,") == 1
    assert "Figure 2" in page
    assert run.figure_path("figure2", "png").read_bytes()[:4] == b"\x89PNG"
    first = run.report_path.read_bytes()
    muscope.report(run)
    assert run.report_path.read_bytes() == first


def test_a_table_of_other_checkpoints_or_settings_is_not_drawn(run, tiny):
    more = dataclasses.replace(tiny, evaluate=dataclasses.replace(tiny.evaluate, episodes=3))
    changed = muscope.open_run(run.path)
    changed.config = more
    with pytest.raises(RunError, match="other checkpoints or settings"):
        muscope.report(changed)


def test_the_report_needs_tables(tiny, tmp_path):
    bare = muscope.train(tiny, tmp_path / "bare")
    with pytest.raises(RunError, match="no tables"):
        muscope.report(bare)


def test_the_figure_is_a_pure_function_of_the_table():
    """Two agents with known returns: lines at their mean, bands of their standard error."""
    columns = {name: [] for name in figure2.SCHEMA}
    for agent in (0, 1):
        for step in (0, 500):
            for policy, offset in (("mcts", 100.0), ("prior", 0.0)):
                for episode in range(3):
                    score = offset + step + 10 * agent + episode - 1
                    for name, value in zip(
                        figure2.SCHEMA, (agent, step, policy, episode, score, 1, 1.0), strict=True
                    ):
                        columns[name].append(value)
    table = tables.make(figure2.SCHEMA, columns, muscope.preset("cart-pole"))
    curves = figure2.curves(table)
    assert [(s, x.mean, x.standard_error, x.n) for s, x in curves["mcts"]] == [
        (0, 105.0, 5.0, 2),
        (500, 605.0, 5.0, 2),
    ]
    axes = figure2.plot({"figure2": table}).axes[0]
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert drawn == {"MCTS": [105.0, 605.0], "policy prior": [5.0, 505.0]}


def test_a_run_and_its_agents_in_python(run):
    opened = muscope.open_run(run.path)
    agent = opened.agent(index=1, step=8)
    state = agent.environment.reset(jax.random.key(0))
    observation = agent.environment.observe(state)
    found = agent.search(observation)
    assert found.visits.shape == (2,)
    assert float(found.visits.sum()) == 4
    assert {agent.act(observation) for _ in range(20)} == {0, 1}
    assert len({agent.act(observation, seed=3) for _ in range(5)}) == 1
    rewards, predictions = agent.unroll(observation, [0, 1, 1])
    assert rewards.shape == (3,)
    assert predictions.policy_logits.shape == (3, 2)
    np.testing.assert_allclose(
        rewards[0],
        agent.network.step(agent.network.represent(observation), jnp.int32(0))[1],
        rtol=1e-4,
        atol=1e-5,
    )
    wrong = (
        lambda: opened.agent(7),
        lambda: opened.agent(0, 9),
        lambda: agent.unroll(observation, [2]),
        lambda: agent.search(np.zeros(3)),
        lambda: muscope.open_run(run.path.parent / "rum"),
    )
    for call in wrong:
        with pytest.raises(MuscopeError):
            call()


def test_tables_are_tidy_parquet_with_settings_in_the_file(run):
    metadata = pq.read_schema(run.table_path("figure2")).metadata
    assert b'"episodes": 2' in metadata[b"mark"]
    config = json.loads(tables.read(run.table_path("figure2"))["config"][0].as_py())
    assert config == to_dict(run.config)
