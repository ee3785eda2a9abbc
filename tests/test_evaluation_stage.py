"""The stages from checkpoints to tables, pictures and a report, and what makes them anew."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markupsafe import escape
from value_error_by_hand import GAMMA, HORIZON, bench_of, decode

import muscope
from muscope.agent import TrueModel
from muscope.config import EvaluateConfig, to_dict
from muscope.envs import CartPole
from muscope.errors import ConfigError, HostError, MuscopeError, RunError
from muscope.experiments import (
    endings,
    every_sequence,
    online_return,
    other_policies,
    own_policy,
    registry,
)
from muscope.experiments import plans as asking
from muscope.experiments.lab import group_size
from muscope.reporting import page as pages
from muscope.storage import tables
from muscope.storage.folder import is_lock
from muscope.training.population import Population

EXPERIMENTS = registry.everything()


@pytest.mark.parametrize("bias", [0.0, 0.25])
def test_the_true_environment_as_a_learned_model_has_no_error_anywhere(bias):
    """Cart Pole through all of Figures 3 to 5; a constant bias gives its discounted sum."""
    agent = TrueModel(CartPole(), decode, reward_bias=bias)
    bench = bench_of([agent, agent], 1.0, environment=CartPole())
    expected = bias * np.cumsum(GAMMA ** np.arange(HORIZON))

    def rows(experiment, **settings):
        made = experiment.EXPERIMENT.run(bench, experiment.EXPERIMENT.settings(**settings), 4)
        return made[experiment.EXPERIMENT.name]

    errors = rows(own_policy, sequences=8)["error"]
    np.testing.assert_allclose(errors, np.tile(expected, 2), atol=1e-5)
    errors = rows(every_sequence, horizon=HORIZON)["error"]
    np.testing.assert_allclose(errors, expected[-1], atol=1e-5)
    errors = rows(other_policies, sequences=8)["error"]
    np.testing.assert_allclose(errors, expected[-1], atol=1e-5)
    table = rows(endings, sequences=8)
    seen = np.asarray(table["sequences"]) > 0
    np.testing.assert_allclose(
        np.asarray(table["predicted_reward"])[seen] - np.asarray(table["true_reward"])[seen],
        bias,
        atol=1e-6,
    )


def test_groups_fill_all_devices():
    two = jax.local_devices()
    assert [group_size(n, 0, two) for n in (1, 2, 3, 4, 30)] == [1, 2, 4, 4, 8]
    assert group_size(30, 1, two) == 1
    assert group_size(30, 3, two) == 4
    assert group_size(30, 0, two[:1]) == 4
    # Two calls either way: of eight each, eleven agents would pay for five that are not there.
    assert [group_size(n, 0, two) for n in (9, 11, 12, 13)] == [6, 6, 6, 8]
    assert group_size(5, 0, two[:1]) == 3


@pytest.fixture
def run(studied_once, tmp_path):
    """A copy of one whole study."""
    shutil.copytree(studied_once, tmp_path / "run")
    return muscope.open_run(tmp_path / "run")


def set_up(run, evaluate=None, **experiments):
    """Change settings of evaluation in memory."""
    config = run.config
    own = {name: {**config.experiments[name], **new} for name, new in experiments.items()}
    run.config = dataclasses.replace(
        config,
        evaluate=dataclasses.replace(config.evaluate, **(evaluate or {})),
        experiments={**config.experiments, **own},
    )


def test_a_study_has_every_table_and_picture(run, tiny):
    schemas = (
        (online_return.SCHEMA, 2 * 3 * 3 * tiny.evaluate.episodes),
        (own_policy.SCHEMA, 2 * 3 * tiny.loss.unroll),
        (endings.SCHEMA, 2 * 3 * 2 * tiny.loss.unroll),
        (every_sequence.SCHEMA, 2 * 3 * 2 ** tiny.experiments["figure4"]["horizon"]),
        (every_sequence.STATES_SCHEMA, 2 * 3 * tiny.evaluate.states),
        (other_policies.SCHEMA, 2 * 3 * 3),
    )
    for schema, count in schemas:
        table = tables.read(run.table_path(schema.name))
        assert table.num_rows == count
        assert table.column_names == [*schema.names, *(c.name for c in tables.SETTINGS)]
    html = run.report_path.read_text()
    assert html.count("data:image/svg+xml;base64,") == len(EXPERIMENTS)
    for experiment in EXPERIMENTS.values():
        assert escape(experiment.title) in html
        for suffix in ("png", "svg", "pdf"):
            assert run.figure_path(experiment.name, suffix).stat().st_size > 5_000


def test_figure_2_has_every_cell(run, tiny):
    table = tables.read(run.table_path("figure2"))
    counts = table.group_by(["agent", "step", "policy"]).aggregate([([], "count_all")])
    assert counts.num_rows == 2 * 3 * 3
    assert set(counts["count_all"].to_pylist()) == {tiny.evaluate.episodes}
    row = table.to_pylist()[0]
    assert row["environment"] == "cart-pole"
    assert row["simulations"] == 4
    assert row["muscope"] == muscope.__version__
    lengths = table["length"].to_numpy()
    np.testing.assert_array_equal(table["return"].to_numpy(), lengths)
    assert ((lengths >= 8) & (lengths <= 500)).all()


def test_tables_are_tidy_parquet_with_settings_in_the_file(run):
    metadata = pq.read_schema(run.table_path("figure3")).metadata
    assert b'"episodes": 2' in metadata[b"mark"]
    assert b'"sequences": 3' in metadata[b"mark"]
    written = json.loads(tables.read(run.table_path("figure3"))["config"][0].as_py())
    config = to_dict(run.config)
    own = config.pop("experiments")["figure3"]
    del config["train"]["agents"], config["train"]["block"]
    assert written == {**config, "figure3": own}


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


@pytest.mark.parametrize("name", ["figure3", "endings", "figure4", "figure5"])
def test_one_agents_lost_cell_is_made_again_alone_and_alike(run, name):
    """Cells are (agent, checkpoint, figure); the others stay untouched."""
    files = EXPERIMENTS[name].files
    before = {f: run.table_path(f).read_bytes() for f in files}
    cells = sorted(run.path.glob("cells/*/*.parquet"))
    lost = run.cell_path(name, "step-00000008-agent-001")
    stamps = {c: c.stat().st_mtime_ns for c in cells if c.name != lost.name}
    lost.unlink()
    run.table_path(name).unlink()
    muscope.evaluate(run, [name])
    assert lost.exists()
    assert {c: c.stat().st_mtime_ns for c in stamps} == stamps
    for f in files:
        assert run.table_path(f).read_bytes() == before[f]


def test_an_experiments_settings_recompute_its_own_tables_alone(run):
    names = [name for name in run.tables() if name not in ("figure3", "claims")]
    kept = {name: run.table_path(name).stat().st_mtime_ns for name in names}
    set_up(run, figure3={"sequences": 5})
    muscope.evaluate(run)
    assert {name: run.table_path(name).stat().st_mtime_ns for name in kept} == kept
    assert set(tables.read(run.table_path("figure3"))["n_sequences"].to_pylist()) == {5}


def test_shared_settings_recompute_but_do_not_retrain(run, tiny):
    stamp = run.checkpoint_path(24).stat().st_mtime_ns
    more = dataclasses.replace(tiny, evaluate=dataclasses.replace(tiny.evaluate, episodes=3))
    again = muscope.train(more, run.path)
    muscope.evaluate(again, ["figure2"])
    assert tables.read(again.table_path("figure2")).num_rows == 3 * 2 * 3 * 3
    assert run.checkpoint_path(24).stat().st_mtime_ns == stamp


def test_chosen_checkpoints_alone_are_examined(run):
    set_up(run, evaluate={"checkpoints": (8, 24)})
    muscope.evaluate(run)
    assert set(tables.read(run.table_path("figure5"))["policy_step"].to_pylist()) == {8, 24}
    muscope.report(run)


def test_impossible_settings_are_refused_before_training(tiny, tmp_path):
    other = dataclasses.replace(tiny.evaluate, checkpoints=(7,))
    for change, message in (
        ({"evaluate": other}, r"names \[7\]; there are checkpoints at \[0, 8, 24\]"),
        (
            {"experiments": {"figure4": {"horizon": 40}}},
            r"figure4.horizon is 40; it must be less than or equal to 16",
        ),
        ({"experiments": {"figure4": {"horison": 4}}}, r"Did you mean 'horizon'\?"),
    ):
        with pytest.raises(ConfigError, match=message):
            muscope.study(dataclasses.replace(tiny, **change), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"evaluate.states is 0"):
        EvaluateConfig(states=0)
    assert [e.name for e in registry.chosen(["4", "figure4"])] == ["figure4"]


def test_evaluating_an_unfinished_run_is_refused(run):
    run.checkpoint_path(8).unlink()
    config = (run.path / "config.json").read_bytes()
    with pytest.raises(RunError, match=r"no checkpoint for training steps \[8\]"):
        muscope.evaluate(run)
    assert (run.path / "config.json").read_bytes() == config
    with pytest.raises(ConfigError, match="unknown figure 'figure22'"):
        muscope.evaluate(run, ["figure22"])


def test_the_report_is_self_contained(run):
    page = run.report_path.read_text()
    for outside in ('src="http', 'href="http', "<script src", "<link"):
        assert outside not in page
    assert run.figure_path("figure2", "png").read_bytes()[:4] == b"\x89PNG"
    first = muscope.report(run).read_bytes()
    assert muscope.report(run).read_bytes() == first


def test_a_run_and_its_agents_show_themselves(run):
    assert "<td>0, 8, 24</td>" in run._repr_html_()
    agent = run.agent(index=1, step=8)
    assert "agent 1 at step 8" in agent._repr_html_()
    found = agent.search([0.0, 0.5, 0.05, -0.5], seed=0)
    assert f"<td>{int(max(found.visits))}</td>" in found._repr_html_()
    assert run.table("figure3").equals(tables.read(run.table_path("figure3")))


def test_a_table_of_other_agents_is_not_drawn(run, tiny, tmp_path):
    path = run.table_path("figure3")
    tables.write(path, tables.read(path), {**tables.about(path), "mark": "of other agents"})
    with pytest.raises(RunError, match=r"figure3.parquet was made of other agents"):
        muscope.report(run)


def test_a_finished_run_keeps_its_settings(run, tiny):
    """Training it again, or evaluating with other settings, changes neither its config nor what
    its other tables were made with.
    """
    config = (run.path / "config.json").read_bytes()
    other = dataclasses.replace(tiny, evaluate=dataclasses.replace(tiny.evaluate, states=3))
    muscope.train(other, run.path)
    muscope.judge(run.path)
    muscope.report(run.path)
    kept = {name: run.table_path(name).read_bytes() for name in run.tables() if name != "endings"}
    muscope.evaluate(run.path, ["endings"], {"evaluate": {"states": 2}})
    assert (run.path / "config.json").read_bytes() == config
    muscope.evaluate(run.path)  # What was asked of a table stays asked.
    assert asking.asked(run, EXPERIMENTS["endings"]).evaluate["states"] == 2
    assert asking.asked(run, EXPERIMENTS["figure3"]).evaluate["states"] == tiny.evaluate.states
    assert kept.items() <= {n: run.table_path(n).read_bytes() for n in run.tables()}.items()


def test_a_report_says_where_settings_differ(run, tiny):
    assert "with the same settings" not in run.report_path.read_text()
    muscope.evaluate(run, ["endings"], {"evaluate": {"states": 2}})
    page = muscope.report(run).read_text()
    assert page.count("this one with <code>evaluate.states 2</code>") == 1
    assert page.count("this one with <code>evaluate.states 4</code>") > 1
    assert len(muscope.judge(run)) > 0


def test_a_remade_table_is_announced(run, capsys):
    muscope.evaluate(run, ["figure3"])
    assert "made anew" not in capsys.readouterr().err
    muscope.evaluate(run, ["figure3"], {"figure3": {"sequences": 4}})
    assert "figure3 is made anew: figure3.sequences (3 != 4)" in capsys.readouterr().err


def test_tables_of_different_agents_do_not_stand_in_one_report(run):
    path = run.table_path("figure3")
    table = tables.read(path)
    config = json.loads(table["config"][0].as_py())
    config["train"]["seed"] = 7
    column = pa.repeat(json.dumps(config), table.num_rows)
    at = table.column_names.index("config")
    changed = table.set_column(at, table.schema.field(at), column)
    tables.write(path, changed, tables.about(path))
    with pytest.raises(RunError, match=r"different agents: train\.seed \(0 != 7\)"):
        pages.report(run)


def test_a_start_that_fails_leaves_nothing_behind(tiny, tmp_path, monkeypatch):
    def fails(*_):
        raise HostError("the simulator broke")

    monkeypatch.setattr(Population, "advance", fails)
    with pytest.raises(HostError):
        muscope.train(tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(HostError):
        muscope.train(tiny, tmp_path / "mine")
    assert all(is_lock(path) for path in (tmp_path / "mine").iterdir())
    monkeypatch.undo()
    assert muscope.train(tiny, tmp_path / "mine").steps() == (0, 8, 24)


def test_the_report_needs_tables(tiny, tmp_path):
    bare = muscope.train(tiny, tmp_path / "bare")
    with pytest.raises(RunError, match="no tables"):
        muscope.report(bare)


def test_a_run_and_its_agents_in_python(run):
    opened = muscope.open_run(run.path)
    agent = opened.agent(index=1, step=8)
    state = agent.environment.reset(jax.random.key(0))
    observation = agent.environment.observe(state)
    searched = agent.search(observation)
    assert searched.visits.shape == (2,)
    assert float(searched.visits.sum()) == 4
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
