"""What a plan counts is what is computed: environments and networks that count, and all presets."""

import collections
import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from tabular import TabularMDP, perfect_agent

import muscope
from muscope import cli, presets, stages, studies
from muscope.config import EvaluateConfig, SearchConfig
from muscope.errors import ConfigError
from muscope.experiments import cost, registry
from muscope.experiments.lab import Lab
from muscope.forecast import calibrate, devices
from muscope.forecast.text import WORTH_SAYING, as_text, duration, summary
from muscope.training import agent as training
from muscope.training import work
from muscope.training.population import Population
from muscope.work import total

COUNTS = collections.Counter()


def count(kind, *batched):
    """Add one for every lane that comes here when the program runs."""
    jax.debug.callback(lambda *_: COUNTS.update([kind]), *batched)


class CountingMDP(TabularMDP):
    """The tabular MDP without an end, so that every episode lasts to the time limit."""

    def step(self, state, action):
        count("environment", state.index, action)
        return super().step(state, action)._replace(terminated=jnp.array(False))


class CountingAgent(eqx.Module):
    inner: eqx.Module

    def represent(self, observation):
        count("encoding", observation)
        return self.inner.represent(observation)

    def step(self, z, action):
        count("model", z, action)
        return self.inner.step(z, action)

    def predict(self, z):
        return self.inner.predict(z)


SETTINGS = {
    "figure3": {"sequences": 3, "horizon": 4},
    "endings": {"sequences": 3, "horizon": 4},
    "figure4": {"horizon": 3},
    "figure5": {"sequences": 2, "horizon": 3},
    "equivalence": {"states": 2, "sequences": 2, "horizon": 3, "functions": 2, "others": [0]},
    "figure6": {"simulations": 4, "horizon": 5},
    "figure7": {"simulations": [1, 3], "horizon": 5, "episodes": 2, "steps": 6},
    "decisions": {"simulations": 3, "horizon": 4, "q_horizon": 5, "sequences": 11},
}


@pytest.fixture(scope="module")
def bench():
    agent = CountingAgent(perfect_agent())
    search = SearchConfig(simulations=5)
    subject = muscope.subject({0: agent, 8: agent}, CountingMDP(), search=search, unroll=3)
    evaluate = EvaluateConfig(episodes=2, states=3)
    return subject, evaluate, Lab(subject, evaluate).bench([0])


def counted(run):
    jax.effects_barrier()
    COUNTS.clear()
    run()
    jax.effects_barrier()
    return dict(COUNTS)


def test_on_policy_episodes_are_counted(bench):
    subject, evaluate, agents = bench
    works = cost.on_policy(subject, evaluate)
    seen = counted(lambda: jax.block_until_ready(agents.on_policy(8)))
    assert total(works, "search") == 2 * 20
    assert {kind: total(works, kind) for kind in seen} == seen
    assert set(seen) == {"environment", "encoding", "model"}


@pytest.mark.parametrize("name", ["figure2", *SETTINGS])
def test_an_experiments_work_is_what_it_does(bench, name):
    subject, evaluate, agents = bench
    experiment = registry.get(name)
    given = dict(SETTINGS.get(name, {}))
    settings = dataclasses.replace(
        experiment.settings(),
        **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()},
    )
    agents.on_policy(8)  # Shared; its work is not the experiment's own.
    seen = counted(lambda: experiment.run(agents, settings, 8))
    works = experiment.work(subject, evaluate, settings)
    if name == "figure7":  # It asks twice for the same encoding in places, which XLA does once.
        assert seen.pop("encoding") >= total(works, "encoding") > 0
    assert {kind: total(works, kind) for kind in seen} == seen


def test_trainings_work_is_what_it_does(tiny, monkeypatch):
    """A whole training of one agent, whose environment, searches and updates count."""
    config = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, agents=1))
    real_search, real_draw = training.search, training.replay.draw

    def search(parts, roots, *rest):
        jax.vmap(lambda z: count("search", z))(roots)
        return real_search(parts, roots, *rest)

    def draw(key, memory, batch, beta):
        index, importance = real_draw(key, memory, batch, beta)
        jax.vmap(lambda i: count("update", i))(index)
        return index, importance

    monkeypatch.setattr(training, "search", search)
    monkeypatch.setattr(training.replay, "draw", draw)
    population = Population(config)
    step = population.program.environment.step
    population.program.environment = Counted(population.program.environment, step)
    state, rounds = population.initial(), 0
    jax.block_until_ready(state)

    def train():
        nonlocal state, rounds
        while population.training_step(rounds) < config.train.steps:
            state, _ = population.advance(state, rounds)
            rounds += config.train.call_rounds
        jax.block_until_ready(state)

    seen = counted(train)
    works = work.of_agent(config)
    assert rounds == work.rounds(config)
    assert {kind: total(works, kind) for kind in seen} == seen
    assert set(seen) == {"environment", "search", "update"}


class Counted:
    """An environment whose steps are counted."""

    def __init__(self, inner, step):
        self.inner, self._step, self.spec = inner, step, inner.spec
        self.reset, self.observe = inner.reset, inner.observe

    def step(self, state, action):
        count("environment", *jax.tree.leaves(state), action)
        return self._step(state, action)


@pytest.mark.parametrize(
    ("environment", "preset"),
    [
        *(("cart-pole", name) for name in ("quick", "paper", "strong")),
        *(("lunar-lander", name) for name in ("quick", "paper", "strong")),
        *(("breakout", name) for name in ("quick", "gpu", "paper")),
    ],
)
def test_every_preset_is_planned_without_running_it(environment, preset):
    if environment == "breakout":
        pytest.importorskip("ale_py")
    config = presets.preset(environment, preset)
    told = stages.plan(config, calibration=0)
    text = as_text(told)
    train, names = config.train, [stage.name for stage in told.stages]
    assert names == ["training", "on-policy episodes", *registry.everything()]
    assert not told.unknown
    for stage in told.stages:
        assert 0 < stage.seconds <= stage.most
        assert stage.count("environment") > 0
    # One search of each lane and of each position that is searched again, round by round.
    roots = train.lanes + train.reanalysed_per_round
    assert told.stages[0].count("search") == train.agents * work.rounds(config) * roots
    checkpoints = len(train.schedule)
    assert told.stages[1].cells == train.agents * checkpoints
    assert f"{train.agents} agents, {train.steps:,} training steps" in text
    assert "a first guess, not calibrated" in text
    for stage in told.stages:
        assert f"\n{stage.name}" in text
        assert (f"\n  {stage.name}: agent" in text) != stage.shared


def test_the_presets_are_in_the_right_order():
    """Minutes, less than an hour or more than one, days: a guess must tell them apart."""
    quick, paper, lander = (
        stages.plan(presets.preset(environment, name), calibration=0).seconds()
        for environment, name in (
            ("cart-pole", "quick"),
            ("cart-pole", "paper"),
            ("lunar-lander", "paper"),
        )
    )
    assert 60 < quick < WORTH_SAYING < paper < 86_400 < lander


def test_a_plan_has_the_runs_blocks_as_jobs(tiny):
    config = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, agents=5, block=2))
    told = stages.plan(config, ["figure2"], calibration=0)
    assert [job.agents for job in told.stages[0].jobs] == [range(2), range(2, 4), range(4, 5)]
    figure2 = told.stages[2]
    assert {(job.step, job.agents) for job in figure2.jobs} == {
        (step, agents) for step in (0, 8, 24) for agents in (range(2), range(2, 4), range(4, 5))
    }
    assert figure2.cells == 5 * 3
    assert "training: agents 0..1; agents 2..3; agent 4" in as_text(told)


def test_an_experiment_that_does_not_say_its_work_is_named(tiny, monkeypatch):
    silent = dataclasses.replace(registry.get("endings"), work=None, memory=None)
    monkeypatch.setattr(registry, "chosen", lambda names: [registry.get("figure2"), silent])
    told = stages.plan(tiny, calibration=0)
    assert told.unknown == ("endings",)
    text = as_text(told)
    assert "not in it: endings, which gives no count of its work" in text
    assert "without endings" in summary(told)
    (row,) = [line for line in text.splitlines() if line.startswith("endings")]
    assert row.count("unknown") == 5


def test_gpus_are_estimated_and_say_so(tiny, capsys):
    told = stages.plan(tiny, gpu="H100")
    assert "ESTIMATED for one NVIDIA H100 SXM, never measured" in as_text(told)
    with pytest.raises(ConfigError, match=r"unknown GPU 'h1000'; known are .*Did you mean 'h100'"):
        stages.plan(tiny, gpu="h1000")
    slow, fast = (devices.on_gpu(stages.resolved(tiny), devices.gpu(g)) for g in ("t4", "h200"))
    assert all(fast.of[kind].lane <= slow.of[kind].lane for kind in fast.of)
    with pytest.raises(SystemExit) as stop:
        cli.main(["plan", "cart-pole", "--gpu", "none"])
    assert stop.value.code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_calibration_measures_everything_and_leaves_no_program_in_the_cache(tiny):
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    rates = calibrate.calibrated(stages.resolved(tiny))
    assert getattr(jax.config, name) == before
    kinds = {w.kind for w in work.of_agent(tiny)} - {"search"}
    assert kinds <= set(rates.of) == set(rates.first_use)
    for kind in kinds - {"reset"}:
        assert rates.of[kind].call + rates.of[kind].lane > 0
        assert rates.first_use[kind].compiling > 0
    assert 9 <= rates.longest_random <= 200  # Cart Pole falls.


def test_a_plan_on_the_command_line_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["plan", "cart-pole", "--calibration", "0", "--figures", "2", "--agents", "3"])
    text = capsys.readouterr().out
    assert text.startswith("cart-pole, preset quick: 3 agents")
    assert not list(tmp_path.iterdir())


class Begun(Exception):
    """The training would begin now."""


def test_a_long_study_begins_with_its_summary(tiny, tmp_path, monkeypatch, capsys):
    def nothing(*_):
        raise Begun

    monkeypatch.setattr(stages, "train", nothing)
    long = dataclasses.replace(
        tiny, train=dataclasses.replace(tiny.train, steps=80_000_000, checkpoints=(0,))
    )
    with pytest.raises(Begun):
        studies.study(long, tmp_path / "run", ["figure2"])
    said = capsys.readouterr().err
    assert said.startswith("muscope: cart-pole, preset tiny: about ")
    assert len(said.splitlines()) == 1


def test_durations_are_told_in_few_digits():
    told = [duration(s) for s in (4.4, 99.0, 240.0, 5_400.0, 108_000.0, 3_456_000.0)]
    assert told == ["4 s", "99 s", "4 min", "90 min", "30.0 h", "40 days"]
