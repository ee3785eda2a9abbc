"""Numbers that are none, clipped targets and diverged agents do not pass in silence."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.compute as pc
import pytest
import worlds
from conftest import tiny_config
from test_targets import filled

import muscope
from muscope.agent import networks
from muscope.config import SearchConfig
from muscope.envs.base import Transition
from muscope.errors import CheckpointError, DivergedError, RunError
from muscope.experiments import registry
from muscope.storage import checkpoint, tables
from muscope.training import health, runner
from muscope.training.population import Population


def changed(config, section, **values):
    return dataclasses.replace(
        config, **{section: dataclasses.replace(getattr(config, section), **values)}
    )


# Health of one agent against plain loops.


def test_clipped_rewards_and_values_are_counted_as_a_loop_counts_them(tiny):
    """Without ends, n-step values are plain sums; rewards of 5 are beyond h^-1(1) = 2.99."""
    n, rounds, discount = 3, 4, tiny.environment.discount
    rewards = [0.0, 5.0, 1.0, 0.0, -5.0, 2.0, 0.5, 5.0, 0.0, 0.0]
    ring = filled(rewards, length=16)
    ring = ring._replace(rows=ring.rows._replace(value=ring.rows.value * 0))
    config = changed(changed(tiny, "loss", n_step=n), "train", rounds_per_call=rounds)
    config = changed(config, "network", value_limit=1.0)
    assert config.train.call_rounds == rounds
    state = Population(config).program.initial(jax.random.key(0))._replace(replay=ring)
    seen = jax.device_get(health.health(config, state))
    new = rewards[-rounds:]
    sums = [
        sum(discount**k * rewards[t + k] for k in range(n))
        for t in range(len(rewards) - rounds - n, len(rewards) - n)
    ]
    assert seen.rows == rounds
    assert seen.clipped_rewards == sum(abs(r) > 2.99 for r in new) == 1
    assert seen.clipped_values == sum(abs(v) > 2.99 for v in sums)
    assert 0 < seen.clipped_values < rounds
    np.testing.assert_allclose(seen.greatest_reward, max(map(abs, new)))
    np.testing.assert_allclose(seen.greatest_value, max(map(abs, sums)), rtol=1e-5)
    assert seen.parameters
    assert seen.observations
    assert seen.rewards


def test_one_nan_anywhere_is_seen(tiny):
    state = Population(tiny).program.initial(jax.random.key(0))
    assert all(jax.device_get(health.health(tiny, state))[:3])

    def poisoned(tree):
        leaves, structure = jax.tree.flatten(tree)
        at = max(range(len(leaves)), key=lambda i: jnp.issubdtype(leaves[i].dtype, jnp.floating))
        leaves[at] = leaves[at].at[(0,) * leaves[at].ndim].set(jnp.nan)
        return jax.tree.unflatten(structure, leaves)

    rows = state.replay.rows
    for field, broken in (
        ("parameters", state._replace(agent=poisoned(state.agent))),
        ("parameters", state._replace(average=poisoned(state.average))),
        ("parameters", state._replace(optimiser=poisoned(state.optimiser))),
        *(
            (
                name,
                state._replace(
                    replay=state.replay._replace(
                        rows=rows._replace(**{part: poisoned(getattr(rows, part))})
                    )
                ),
            )
            for name, part in (("observations", "observation"), ("rewards", "reward"))
        ),
    ):
        seen = jax.device_get(health.health(tiny, broken))._asdict()
        assert [k for k in ("parameters", "observations", "rewards") if not seen[k]] == [field]


# Whole runs.


class Faulty(worlds.Line):
    """A line whose third place gives a reward or an observation that is no number; random play
    of the trial comes there too, so it is told not to look.
    """

    def __init__(self, reward=0.0, seen=0.0, scale=1.0):
        super().__init__(worlds.LineOptions(length=6))
        self.faults, self.scale = (reward, seen), scale

    def step(self, state, action):
        moved = super().step(state, action)
        fault = jnp.where(moved.state.place == 3, self.faults[0], 0.0)
        return Transition(moved.state, self.scale * moved.reward + fault, moved.terminated)

    def observe(self, state):
        return super().observe(state) + jnp.where(state.place == 3, self.faults[1], 0.0)


@pytest.fixture
def untried(monkeypatch):
    """The faults come too late for the trial at the start."""
    monkeypatch.setattr("muscope.checks.check_environment", lambda environment: None)


def config_for(name):
    return dataclasses.replace(
        tiny_config(), environment=muscope.EnvironmentConfig(f"{__file__}:{name}")
    )


NAN_REWARD, INF_SEEN = Faulty(reward=float("nan")), Faulty(seen=float("inf"))
GREAT = Faulty(scale=8500.0)


@pytest.mark.parametrize(
    ("name", "what"), [("NAN_REWARD", "rewards"), ("INF_SEEN", "observations")]
)
def test_an_environment_that_gives_no_number_stops_training(name, what, untried, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(DivergedError, match=rf"agent.* 0.*{what} that are not finite") as stop:
        muscope.train(config_for(name), out)
    assert "step" in str(stop.value)
    run = muscope.open_run(out)
    assert str(run.diverged_path) in str(stop.value)
    header = checkpoint.read_header(run.diverged_path, checkpoint.STATE_FORMAT)
    assert header["rounds"] > 0
    # Repeating it starts from what was sound, and says the same.
    with pytest.raises(DivergedError, match="not finite"):
        muscope.train(config_for(name), out)


def test_the_trial_refuses_such_an_environment_before_anything_is_written(tmp_path):
    for name in ("NAN_REWARD", "INF_SEEN"):
        with pytest.raises(muscope.ConfigError, match="is not finite after"):
            muscope.train(config_for(name), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("world", "figure", "column"),
    [(NAN_REWARD, "figure2", "return"), (INF_SEEN, "figure3", "error")],
)
def test_numbers_that_only_an_evaluation_meets_are_in_no_mean(
    world, figure, column, untried, tmp_path
):
    """Of agents that others have trained, in a world whose faults the trial did not meet."""
    agent = networks.build(tiny_config().network, world.spec, jax.random.key(0))
    subject = muscope.subject(agent, world, search=SearchConfig(simulations=4))
    out = tmp_path / "mine"
    evaluate = muscope.EvaluateConfig(episodes=4, states=16)
    with pytest.raises(DivergedError, match=rf"{figure}.*'{column}' of agent 0 is not a finite"):
        muscope.examine(subject, out, [figure], evaluate, {"figure3": {"sequences": 3}})
    assert not (out / "tables" / f"{figure}.parquet").exists()


def test_rewards_beyond_the_support_are_said_counted_and_marked(tmp_path, capsys):
    run = muscope.train(config_for("GREAT"), tmp_path / "run")
    said = capsys.readouterr().err
    assert "express rewards up to ±2.988 and values up to ±422.4" in said
    assert "the greatest was 8500" in said
    assert "Raise network.reward_limit to 110" in said  # h(1.2 * 8500) = 110.2
    header = checkpoint.read_header(run.checkpoint_path(24), checkpoint.AGENTS_FORMAT)
    assert sum(header["seen"]["clipped_rewards"]) > 0
    muscope.evaluate(run, ["figure3"])
    page = muscope.report(run).read_text()
    assert "rewards lay beyond ±2.988" in page
    assert "training targets were clipped" in run.figure_path("figure3", "svg").read_text() or (
        "8500" in page
    )


def test_rewards_within_the_support_are_not_marked(tmp_path, capsys):
    name = f"{worlds.__file__}:LINE"
    config = dataclasses.replace(tiny_config(), environment=muscope.EnvironmentConfig(name))
    run = muscope.train(config, tmp_path / "run")
    assert run.subject.clipped() == []
    assert "Raise" not in capsys.readouterr().err


def poisoned(initial, agents, of=None):
    """Populations that begin with NaN for the parameters of some agents, perhaps only the one whose
    first agent is ``of``.
    """

    def poison(leaf):
        numeric = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.at[jnp.array(agents)].set(jnp.nan) if numeric else leaf

    def begin(population):
        state = initial(population)
        if not isinstance(jax.tree.leaves(state.agent)[0], jax.Array):
            return state  # Its shapes are asked for.
        if of is not None and population.agents.start != of:
            return state
        agent = jax.tree.map(poison, state.agent)
        return state._replace(agent=agent, average=jax.tree.map(poison, state.average))

    return begin


@pytest.fixture(scope="module")
def with_a_diverged_agent(tmp_path_factory):
    """Agent 1 of 3 has a parameter that is no number from the start, the run of three without
    it, and what was said.
    """
    config = changed(tiny_config(), "train", agents=3)
    sound = muscope.train(config, tmp_path_factory.mktemp("sound") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Population, "initial", poisoned(Population.initial, [1]))
        run = muscope.train(config, tmp_path_factory.mktemp("diverged") / "run")
    muscope.evaluate(run)
    return run, sound


def test_the_other_agents_go_on_to_the_same_bits(with_a_diverged_agent):
    run, sound = with_a_diverged_agent
    broken, whole = (jax.tree.leaves(r.subject.load(24)) for r in (run, sound))
    for a, b in zip(broken, whole, strict=True):
        np.testing.assert_array_equal(np.delete(a, 1, axis=0), np.delete(b, 1, axis=0))
    assert not np.isfinite(broken[0][1]).all()
    header = checkpoint.read_header(run.checkpoint_path(24), checkpoint.AGENTS_FORMAT)
    assert header["seen"]["diverged"] == {"1": 0}


def test_tables_have_no_numbers_of_it_and_all_of_the_others(with_a_diverged_agent):
    run, _ = with_a_diverged_agent
    for experiment in registry.everything().values():
        for schema in experiment.tables:
            table = tables.read(run.table_path(schema.name))
            diverged = pc.equal(table["agent"], 1)
            assert pc.sum(diverged).as_py() * 3 == table.num_rows
            for column in schema.columns:
                nulls = pc.is_null(table[column.name])
                wanted = diverged if column.measured else pc.equal(table["agent"], -1)
                assert nulls.to_pylist() == wanted.to_pylist(), (schema.name, column.name)
        about = tables.about(run.table_path(experiment.name))
        assert list(json.loads(about["diverged"])) == ["1"]


def test_figures_and_claims_name_it(with_a_diverged_agent):
    run, _ = with_a_diverged_agent
    page = muscope.report(run).read_text()
    assert page.count("Agent 1 diverged in training") == 1
    assert page.count("⚠ 1 of 3 agents diverged") == len(registry.everything())
    claims = muscope.judge(run).to_pylist()
    assert claims
    for row in claims:
        assert "agent 1 diverged by training step" in row["note"]
        assert row["n_agents"] == 2


def test_a_population_that_diverges_as_a_whole_stops_with_the_cause(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Population, "initial", poisoned(Population.initial, [0, 1]))
    with pytest.raises(DivergedError, match=r"lower optimiser\.learning_rate") as stop:
        muscope.train(tiny, tmp_path / "run")
    assert "agents 0, 1 diverged" in str(stop.value)
    run = muscope.open_run(tmp_path / "run")
    assert run.steps() == (0,)
    assert run.diverged_path.exists()


def test_a_report_of_nothing_but_diverged_agents_is_drawn(with_a_diverged_agent, tmp_path):
    """Every picture and caption stands a table without a single number."""
    run, _ = with_a_diverged_agent
    for experiment in registry.everything().values():
        given = {}
        for schema in experiment.tables:
            table = tables.read(run.table_path(schema.name))
            given[schema.name] = schema.without(table, lambda agent, step: False)
        assert experiment.caption(given)
        experiment.plot(given).savefig(tmp_path / "figure.png")


# Devices.


def begun(config, path, devices=None):
    """A run with a saved state and nothing else, written on some devices."""
    run = muscope.stages.StudyRun.create(path, config)
    with run.begin():
        (block,) = run.blocks()
        training = runner._Training(run, block, Population(config, devices))
        training._write_agents()
        training._advance()
        training._write_state(run.state_path)
    return run


def test_a_state_is_resumed_on_as_many_devices_as_it_was_written_with(tiny, tmp_path, monkeypatch):
    one = jax.local_devices()[:1]
    run = begun(tiny, tmp_path / "one", one)
    used = []
    build = Population.__init__

    def noting(self, config, devices=None, agents=None):
        build(self, config, devices, agents)
        used.append(self.mesh.size)

    monkeypatch.setattr(Population, "__init__", noting)
    runner.train(run)
    assert used == [1]


def test_too_few_devices_or_another_platform_are_refused(tiny, tmp_path, monkeypatch):
    run = begun(tiny, tmp_path / "two")
    one = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: one)
    with pytest.raises(RunError, match=r"2 cpu devices.*JAX_NUM_CPU_DEVICES=2"):
        runner.train(run)
    monkeypatch.undo()
    header = checkpoint.read_header
    monkeypatch.setattr(
        checkpoint, "read_header", lambda *a: {**header(*a), "platform": "gpu", "devices": 1}
    )
    with pytest.raises(RunError, match="set JAX_PLATFORMS=gpu"):
        runner.train(run)
    assert run.steps() == (0,)
    assert run.state_path.exists()


def test_another_processor_is_said(tiny, tmp_path, monkeypatch, capsys):
    run = begun(tiny, tmp_path / "run")
    monkeypatch.setattr(runner, "processor", lambda: "an abacus")
    runner.train(run)
    assert "an abacus'; the last bits of what follows may differ" in capsys.readouterr().err


def test_a_state_of_an_older_format_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "STATE_FORMAT", "muscope-state-1")
    run = begun(tiny, tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="muscope-state-1"):
        runner.train(run)
