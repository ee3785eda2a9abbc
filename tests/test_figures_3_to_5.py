"""Figures 3, 4 and 5 where every number is known, and the stage around them."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from markupsafe import escape
from tabular import NEXT, REWARD, TabularMDP, TabularState, perfect_agent
from test_value_error import WRONG, by_hand, decode

import muscope
from muscope import envs
from muscope.agent import TrueModel
from muscope.config import Config, EnvironmentConfig
from muscope.envs import CartPole
from muscope.errors import ConfigError
from muscope.evaluation.value_error import Rewards
from muscope.experiments import endings, figure3, figure4, figure5
from muscope.experiments.config import EvaluateConfig
from muscope.experiments.evaluate import EXPERIMENTS, check
from muscope.experiments.lab import Lab, block_size
from muscope.search import SearchConfig
from muscope.storage import tables
from muscope.training.config import TrainConfig

GAMMA, HORIZON = 0.9, 4
COLD = (1e-5, 1e-5, 1e-5)  # temperatures at which Equation 1 is deterministic


@pytest.fixture
def tabular(monkeypatch):
    monkeypatch.setitem(envs._MAKERS, "tabular", TabularMDP)


def make_lab(agents, temperatures, states=6, sequences=8, environment="tabular", **evaluate):
    """A lab whose checkpoint number i holds two copies of ``agents[i]``."""
    steps = tuple(range(0, 4 * len(agents), 4))
    config = Config(
        environment=EnvironmentConfig(environment, GAMMA),
        search=SearchConfig(simulations=16, tie_noise=0.0),
        train=TrainConfig(
            agents=2, steps=steps[-1] or 4, checkpoints=steps, temperatures=temperatures
        ),
        evaluate=EvaluateConfig(
            checkpoints=steps,
            episodes=8,
            states=states,
            sequences=sequences,
            horizon=HORIZON,
            sequence_horizon=HORIZON,
            **evaluate,
        ),
    )
    twice = [jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), agent) for agent in agents]
    lab = Lab(config, lambda step: twice[step // 4])
    lab.block = (0, 1)
    return lab


def random_agent(seed, reward):
    rng = np.random.default_rng(seed)
    return perfect_agent(rng.normal(size=(5, 2)), rng.normal(size=5) + 2.0, reward)


def greedy_table(lab, agent):
    """The deterministic pi_MuZero: its action in each of the five states."""
    return np.argmax(policy_table(lab, agent, COLD[0]), axis=1)


def walk(state, action_of):
    actions = []
    for _ in range(HORIZON):
        actions.append(action_of[state])
        state = NEXT[state, actions[-1]]
    return actions


def closed_form(start, actions, reward):
    """v - v_hat for horizons 1..h."""
    true, _ = by_hand(start, actions)
    predicted, _ = by_hand(start, actions, reward)
    return np.cumsum(GAMMA ** np.arange(HORIZON) * (true - predicted))


def test_figure_3_is_its_closed_form_for_a_deterministic_policy(tabular):
    agent = random_agent(0, WRONG)
    lab = make_lab([agent], COLD)
    table = figure3.run(lab, 0)["figure3"]
    action_of = greedy_table(lab, agent)
    for i in (0, 1):
        starts = np.asarray(lab.on_policy(0).states.index[i])
        errors = np.array([np.abs(closed_form(s, walk(s, action_of), WRONG)) for s in starts])
        rows = table.slice(i * HORIZON, HORIZON)
        assert rows["agent"].to_pylist() == [i] * HORIZON
        assert rows["horizon"].to_pylist() == [1, 2, 3, 4]
        np.testing.assert_allclose(rows["error"], errors.mean(0), atol=3e-4)
        np.testing.assert_allclose(rows["absolute_error"], errors.mean(0), atol=3e-4)
        np.testing.assert_allclose(rows["standard_error"], 0.0, atol=1e-5)
        np.testing.assert_allclose(
            rows["states_error"], errors.std(0, ddof=1) / np.sqrt(len(starts)), atol=3e-4
        )
        rewards = np.array([by_hand(s, walk(s, action_of))[0] for s in starts])
        wrong = np.array([by_hand(s, walk(s, action_of), WRONG)[0] for s in starts])
        np.testing.assert_allclose(rows["reward_error"], np.abs(rewards - wrong).mean(0), atol=3e-4)
        powers = GAMMA ** np.arange(HORIZON)
        naive = np.abs(np.cumsum((rewards - rewards.mean()) * powers, axis=1)).mean(0)
        np.testing.assert_allclose(rows["average_reward_error"], naive, atol=1e-4)
        np.testing.assert_allclose(rows["spread"], 0.0, atol=1e-5)


def policy_table(lab, agent, temperature):
    """pi_MuZero(a | s) in each of the five states. [5, A]"""
    return np.exp(
        figure4.behaviour_at(
            lab.environment,
            agent,
            TabularState(jnp.arange(5)),
            jax.random.key(0),
            lab.config.search,
            GAMMA,
            temperature,
        )
    )


def expectations(lab, agent, start, temperature, reward):
    """E[v - v_hat] and E|v - v_hat| at h over all sequences, by Equation 6."""
    policy = policy_table(lab, agent, temperature)
    mean, absolute = 0.0, 0.0
    for number in range(2**HORIZON):
        actions = [(number >> bit) & 1 for bit in range(HORIZON)]
        probability, s = 1.0, start
        for action in actions:
            probability *= policy[s, action]
            s = NEXT[s, action]
        difference = closed_form(start, actions, reward)[-1]
        mean += probability * difference
        absolute += probability * abs(difference)
    return mean, absolute


def test_figure_3_converges_to_the_exact_expectation(tabular):
    """A stochastic policy: Definition 2 and Definition 1 within Monte Carlo error."""
    agent = random_agent(1, WRONG)
    lab = make_lab([agent], (1.0, 1.0, 1.0), states=5, sequences=4000)
    row = figure3.run(lab, 0)["figure3"].to_pylist()[HORIZON - 1]
    starts = np.asarray(lab.on_policy(0).states.index[0])
    exact = [expectations(lab, agent, s, 1.0, WRONG) for s in starts]
    assert 0 < row["standard_error"] < 0.05
    assert row["error"] == pytest.approx(
        np.mean([abs(mean) for mean, _ in exact]), abs=3 * row["standard_error"]
    )
    assert row["absolute_error"] == pytest.approx(
        np.mean([absolute for _, absolute in exact]), abs=3 * row["standard_error"]
    )
    assert row["absolute_error"] > row["error"] + 0.02


def test_doubling_states_and_sequences_moves_figure_3_within_its_errors(tabular):
    agent = random_agent(2, WRONG)
    small = make_lab([agent], (1.0, 1.0, 1.0), states=16, sequences=64)
    large = make_lab([agent], (1.0, 1.0, 1.0), states=32, sequences=128)
    a, b = (figure3.run(lab, 0)["figure3"].to_pylist()[HORIZON - 1] for lab in (small, large))
    noise = np.hypot(a["states_error"], b["states_error"]) + a["standard_error"]
    assert abs(a["error"] - b["error"]) < 3 * noise
    assert b["states_error"] == pytest.approx(a["states_error"] / np.sqrt(2), rel=0.5)
    assert b["standard_error"] == pytest.approx(a["standard_error"] / np.sqrt(2), rel=0.25)


def test_figure_4_is_its_closed_form(tabular):
    agent = random_agent(3, WRONG)
    lab = make_lab([agent], (1.0, 1.0, 1.0))
    made = figure4.run(lab, 0)
    ranks = made["figure4"].slice(0, 2**HORIZON)
    starts = np.asarray(lab.on_policy(0).states.index[0])
    policy = policy_table(lab, agent, 1.0)
    probability, error, value = [], [], []
    for start in starts:
        for number in range(2**HORIZON):
            actions = [(number >> bit) & 1 for bit in reversed(range(HORIZON))]
            p, s = 1.0, start
            for action in actions:
                p *= policy[s, action]
                s = NEXT[s, action]
            probability.append(p)
            error.append(abs(closed_form(start, actions, WRONG)[-1]))
            value.append(np.sum(GAMMA ** np.arange(HORIZON) * by_hand(start, actions)[0]))
    probability, error, value = (
        np.reshape(x, (len(starts), -1)) for x in (probability, error, value)
    )
    order = np.argsort(probability, axis=1)
    np.testing.assert_allclose(
        ranks["probability"], np.take_along_axis(probability, order, 1).mean(0), atol=1e-5
    )
    every = lab.call(
        figure4.every_sequence,
        lab.agents(0),
        lab.on_policy(0).states,
        lab.keys(0, 4),
        shared=(1.0,),
    )
    np.testing.assert_allclose(np.exp(every.log_probability[0]), probability, atol=1e-5)
    np.testing.assert_allclose(every.error[0], error, atol=5e-4)
    np.testing.assert_allclose(every.value[0], value, atol=5e-4)
    assert ranks["rank"].to_pylist() == list(range(2**HORIZON))
    np.testing.assert_allclose(np.mean(ranks["error"]), error.mean(), atol=5e-4)
    states = made["figure4_states"].slice(0, len(starts))
    np.testing.assert_allclose(states["mean_error"], error.mean(1), atol=5e-4)
    np.testing.assert_allclose(states["likely_error"], (probability * error).sum(1), atol=5e-4)
    np.testing.assert_allclose(states["spread"], value.std(1), atol=5e-4)


def test_ranking_orders_by_probability_and_keeps_pairs_together():
    probability = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
    error = np.array([[3.0, 1.0, 2.0], [10.0, 30.0, 20.0]])
    found = figure4.ranked(figure4.EverySequence(np.log(probability), error, *[error] * 4), [0])
    np.testing.assert_allclose(found["probability"], [0.15, 0.3, 0.55])
    np.testing.assert_allclose(found["error"], [16.5, 11.0, 5.5])


def test_equal_probabilities_are_ranked_at_random():
    """With all probabilities equal, every rank has the same expected error."""
    error = np.tile(np.arange(4.0), (4000, 1))
    same = np.full_like(error, 0.25)
    found = figure4.ranked(figure4.EverySequence(np.log(same), error, *[error] * 4), [0])
    np.testing.assert_allclose(found["error"], 1.5, atol=0.08)


def test_figure_5_is_its_closed_form_and_its_diagonal_is_figure_3(tabular):
    """Two checkpoints with other models and other deterministic policies."""
    models = [WRONG, REWARD + 0.1]
    agents = [random_agent(4, models[0]), random_agent(5, models[1])]
    lab = make_lab(agents, COLD)
    actions_of = [greedy_table(lab, agent) for agent in agents]
    assert (actions_of[0] != actions_of[1]).any()
    for x in (0, 1):
        table = figure5.run(lab, 4 * x)["figure5"]
        starts = np.asarray(lab.on_policy(4 * x).states.index[0])
        for y in (0, 1):
            expected = np.mean(
                [abs(closed_form(s, walk(s, actions_of[y]), models[x])[-1]) for s in starts]
            )
            row = table.to_pylist()[y]
            assert (row["agent"], row["model_step"], row["policy_step"]) == (0, 4 * x, 4 * y)
            assert row["error"] == pytest.approx(expected, abs=5e-4)
        own = figure3.run(lab, 4 * x)["figure3"].to_pylist()[HORIZON - 1]
        assert table.to_pylist()[x]["error"] == own["error"]


@pytest.mark.parametrize("bias", [0.0, 0.25])
def test_the_true_environment_as_a_learned_model_has_no_error_anywhere(bias):
    """Cart Pole through all of Figures 3 to 5; a constant bias gives its discounted sum."""
    environment = CartPole()
    agent = TrueModel(environment, decode, reward_bias=bias)
    lab = make_lab([agent, agent], (1.0, 1.0, 1.0), environment="cart-pole")
    expected = bias * np.cumsum(GAMMA ** np.arange(HORIZON))
    rows = figure3.run(lab, 4)["figure3"]
    np.testing.assert_allclose(rows["error"], np.tile(expected, 2), atol=1e-5)
    np.testing.assert_allclose(figure4.run(lab, 4)["figure4"]["error"], expected[-1], atol=1e-5)
    np.testing.assert_allclose(figure5.run(lab, 4)["figure5"]["error"], expected[-1], atol=1e-5)
    table = endings.run(lab, 4)["endings"]
    seen = np.asarray(table["sequences"]) > 0
    np.testing.assert_allclose(
        np.asarray(table["predicted_reward"])[seen] - np.asarray(table["true_reward"])[seen],
        bias,
        atol=1e-6,
    )


def test_a_tied_diagonal_is_not_the_minimum():
    errors = np.array([[[1.0, 2.0], [3.0, 3.0]]])
    np.testing.assert_array_equal(figure5.is_least(errors), [[True, False]])


def test_rewards_are_lined_up_at_the_true_end():
    """One sequence ends with its second step, one with its last, one goes on."""
    rewards = Rewards(
        true=jnp.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]),
        predicted=jnp.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4], [9.0, 9.0, 9.0]]),
        ended=jnp.array([[False, False, True], [False] * 3, [False] * 3]),
    )
    found = endings.profile(rewards, jnp.array([True, True, False]), 1.0)
    # Offsets -3, -2, -1, 0, 1, 2.
    np.testing.assert_array_equal(found.sequences, [1, 2, 2, 1, 0, 0])
    np.testing.assert_allclose(
        found.predicted_reward[:4], [0.6, (0.9 + 0.5) / 2, (0.8 + 0.4) / 2, 0.7], rtol=1e-6
    )
    np.testing.assert_allclose(found.true_reward[:4], [1.0, 1.0, 1.0, 0.0])
    assert np.isnan(found.predicted_reward[4:]).all()
    np.testing.assert_allclose(found.ended, [2 / 3], rtol=1e-6)
    np.testing.assert_allclose(found.ended_error, [0.7 / 3], rtol=1e-6)
    np.testing.assert_allclose(found.alive_error, [(0.3 + 1.5 + 24.0) / 3], rtol=1e-6)


def test_blocks_fill_all_devices(tiny):
    def size(agents, devices, wanted=0):
        config = dataclasses.replace(
            tiny,
            train=dataclasses.replace(tiny.train, agents=agents),
            evaluate=dataclasses.replace(tiny.evaluate, agents_at_once=wanted),
        )
        return block_size(config, devices)

    two = jax.local_devices()
    assert [size(n, two) for n in (1, 2, 3, 4, 30)] == [1, 2, 4, 4, 8]
    assert size(30, two, 1) == 1
    assert size(30, two, 3) == 4
    assert size(30, two[:1]) == 4


@pytest.fixture(scope="module")
def studied(tmp_path_factory, module_tiny):
    return muscope.study(module_tiny, tmp_path_factory.mktemp("study") / "run")


@pytest.fixture
def run(studied, tmp_path):
    """A copy of one whole study."""
    shutil.copytree(studied.path, tmp_path / "run")
    return muscope.open_run(tmp_path / "run")


def test_a_study_has_every_table_and_picture(run, tiny):
    rows = {
        "figure2": 2 * 3 * 2 * 2,
        "figure3": 2 * 3 * tiny.loss.unroll,
        "endings": 2 * 3 * 2 * tiny.loss.unroll,
        "figure4": 2 * 3 * 8,
        "figure4_states": 2 * 3 * 4,
        "figure5": 2 * 3 * 3,
    }
    schemas = {
        "figure3": figure3.SCHEMA,
        "endings": endings.SCHEMA,
        "figure4": figure4.SCHEMA,
        "figure4_states": figure4.STATES_SCHEMA,
        "figure5": figure5.SCHEMA,
    }
    for name, count in rows.items():
        table = tables.read(run.table_path(name))
        assert table.num_rows == count
        if name in schemas:
            assert table.column_names == [*schemas[name], *tables.SETTINGS]
    page = run.report_path.read_text()
    assert page.count("data:image/svg+xml;base64,") == len(EXPERIMENTS)
    for experiment in EXPERIMENTS.values():
        assert escape(experiment.title) in page
        assert run.figure_path(experiment.name, "png").stat().st_size > 10_000


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


def test_other_monte_carlo_settings_keep_figures_that_do_not_use_them(run):
    kept = {n: run.table_path(n).stat().st_mtime_ns for n in ("figure2", "figure4")}
    evaluate = dataclasses.replace(run.config.evaluate, sequences=5)
    run.config = dataclasses.replace(run.config, evaluate=evaluate)
    muscope.evaluate(run)
    assert {n: run.table_path(n).stat().st_mtime_ns for n in kept} == kept
    assert set(tables.read(run.table_path("figure3"))["n_sequences"].to_pylist()) == {5}


def test_chosen_checkpoints_alone_are_examined(run):
    evaluate = dataclasses.replace(run.config.evaluate, checkpoints=(8, 24))
    run.config = dataclasses.replace(run.config, evaluate=evaluate)
    muscope.evaluate(run)
    assert set(tables.read(run.table_path("figure5"))["policy_step"].to_pylist()) == {8, 24}
    muscope.report(run)


def test_impossible_settings_are_refused_before_training(tiny, tmp_path):
    for change, message in (
        ({"checkpoints": (7,)}, r"names \[7\]; the run has checkpoints at \[0, 8, 24\]"),
        ({"sequence_horizon": 40}, "sequence_horizon = 40 makes 1,099,511,627,776"),
    ):
        config = dataclasses.replace(tiny, evaluate=dataclasses.replace(tiny.evaluate, **change))
        with pytest.raises(ConfigError, match=message):
            muscope.study(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"states must be at least 1"):
        EvaluateConfig(states=0)
    assert [e.name for e in check(tiny, ["figure4"])] == ["figure4"]
