"""A whole Breakout run in seconds: training on pixels, what the replay holds, every figure."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import muscope
from muscope import envs
from muscope.agent import TrueModel
from muscope.config import LossConfig, NetworkConfig
from muscope.config.environment import EnvironmentConfig
from muscope.envs import episode, training_view
from muscope.errors import ConfigError
from muscope.evaluation.sequences import true_tree
from muscope.experiments import cost, registry
from muscope.learning import replay
from muscope.storage import checkpoint
from muscope.training.population import Population
from muscope.work import total

pytest.importorskip("ale_py")

ENVIRONMENT = EnvironmentConfig(
    "breakout",
    options={
        "frame_size": 24,
        "colour": "grey",
        "time_limit": 40,
        "training_time_limit": 30,
        "host": {"workers": 1},
    },
)


@pytest.fixture
def small(tiny):
    return dataclasses.replace(
        tiny,
        environment=ENVIRONMENT,
        network=NetworkConfig(
            kind="resnet", width=8, channels=4, head_channels=2, value_bins=21, reward_bins=11
        ),
        loss=LossConfig(unroll=2, n_step=2),
        train=dataclasses.replace(tiny.train, agents=1, steps=8, checkpoints=(0, 8)),
        experiments={**tiny.experiments, "figure4": {"horizon": 2}},
    )


def test_a_life_lost_in_training_ends_the_episode_and_not_the_game():
    """Rows of one lane that never moves: five episodes, one game, then the next game."""
    options = {**ENVIRONMENT.options, "training_time_limit": 3_000}
    environment = training_view(envs.make(dataclasses.replace(ENVIRONMENT, options=options)))
    advance = jax.jit(lambda e, a, k: episode.advance(environment, e, a, k))
    now, key = episode.start(environment, jax.random.key(0)), jax.random.key(1)
    ended, finished, points = 0, False, 0.0
    while not finished:
        before, key = now, jax.random.fold_in(key, 0)
        now, outcome = advance(now, jnp.int32(1), key)
        assert float(outcome.reward) in (0.0, 1.0)
        ended += bool(outcome.terminated)
        finished = bool(outcome.finished)
        if finished:
            assert int(now.elapsed) == 0
            assert points <= float(outcome.score) <= points + 7  # The last step may score.
        else:
            assert int(now.elapsed) == int(before.elapsed) + 1
            assert not bool(now.state.terminated)
            points = float(now.score)
    assert ended == 5
    assert int(now.state.memory.lives) == 5
    assert int(now.state.memory.age) == 0


def test_the_replay_gives_back_what_the_agent_saw(small):
    """A time limit of 30 steps: games start anew inside the ring."""
    population = Population(small)
    state, rounds = population.initial(), 0
    for _ in range(10):
        state, _ = population.advance(state, rounds)
        rounds += small.train.call_rounds
    ring = jax.tree.map(lambda x: x[0], state.replay)
    ages, last = np.asarray(ring.rows.age)[:rounds], np.asarray(ring.rows.last)
    assert (ages[0] == 0).all()
    assert (ages[3:20] == 3).all()
    restarts = 1 + np.flatnonzero(last[: rounds - 1, 0])
    assert len(restarts) >= 1
    assert (ages[restarts, 0] == 0).all()
    for time in (0, 2, 17, *restarts, *(restarts + 1)):
        frames = replay.recall(ring, jnp.int32(time * small.train.lanes))
        oldest = max(0, time - 3, *(r for r in restarts if r <= time), 0)
        for back in range(4):
            expected = ring.rows.observation[max(time - back, oldest), 0]
            np.testing.assert_array_equal(frames[3 - back], expected)


def test_a_saved_run_goes_on_to_the_same_bits(small, tmp_path):
    """The emulator's state is in the file, so another process and other workers can go on."""
    population = Population(small)
    state, calls = population.initial(), small.train.call_rounds
    spread = np.asarray(state.average.representation.view.spread)
    assert 0 == spread.min() < 0.03 < spread.max() < 0.5  # measured: many pixels never change
    for i in range(3):
        state, _ = population.advance(state, i * calls)
    path = tmp_path / "state"
    checkpoint.write(path, state, kind="test", step=0, config={})
    straight, _ = population.advance(state, 3 * calls)
    read, _ = checkpoint.read(path, jax.eval_shape(population.initial), "test")
    population.program.environment.simulator.memo.__init__(2**20)
    again, _ = population.advance(population.place(read), 3 * calls)
    for a, b in zip(jax.tree.leaves(straight), jax.tree.leaves(again), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_replays_that_do_not_fit_are_refused_before_any_work(small, tmp_path):
    huge = dataclasses.replace(
        small, replay=dataclasses.replace(small.replay, capacity=1_000_000_000)
    )
    with pytest.raises(ConfigError, match=r"GB of it saving the replay; lower replay.capacity"):
        muscope.train(huge, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_cost_of_an_evaluation_is_counted_and_announced(small, capsys, monkeypatch):
    """Counted against the simulator itself for the figure whose steps are known exactly."""
    options = {**ENVIRONMENT.options, "host": {"workers": 1, "memory_megabytes": 0}}
    environment = envs.make(dataclasses.replace(ENVIRONMENT, options=options))
    (figure4,) = registry.chosen(["figure4"])
    settings = figure4.settings(horizon=2)
    subject = muscope.subject(TrueModel(environment, jnp.sum), environment)
    assert total(figure4.work(subject, small.evaluate, settings), "environment") == 4 * (4 + 16)
    tree = jax.jit(lambda s: true_tree(environment, s, 2))
    before = environment.simulator.computed
    state = environment.reset(jax.random.key(0))
    for action in (1, 2, 3, 2):  # Once the ball moves two of the four actions are one.
        state = environment.step(state, jnp.int32(action)).state
    reset_and_moves = environment.simulator.computed - before
    jax.block_until_ready(tree(state).reward)
    assert 12 <= environment.simulator.computed - before - reset_and_moves <= 20
    each = cost.seconds_per_step(environment, "training")
    assert 0 < each.given <= each.stepped < 0.1
    monkeypatch.setattr(cost, "seconds_per_step", lambda *_: cost.Steps(1.0, 1.0))
    piece = cost.Share(figure4, small.evaluate, settings, frozenset({1, 2}))
    limit = environment.spec.time_limit
    episodes = 2 * small.evaluate.episodes * limit
    cost.announce(subject, [piece])
    assert f"at most {160 + episodes:,} steps of the game" in capsys.readouterr().err
    on_device = muscope.subject(TrueModel(envs.CartPole(), jnp.sum), "cart-pole")
    cost.announce(on_device, [piece])
    assert capsys.readouterr().err == ""


def test_a_study_of_breakout_runs_to_its_report(small, tmp_path):
    run = muscope.train(small, tmp_path / "run")
    assert run.steps() == (0, 8)
    muscope.evaluate(run)
    for experiment in registry.everything().values():
        for name in experiment.files:
            assert run.table_path(name).exists()
    muscope.report(run)
    agent = run.agent(0)
    state = agent.environment.reset(jax.random.key(0))
    assert 0 <= agent.act(agent.environment.observe(state)) < 4
