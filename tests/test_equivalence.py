"""Order-h value equivalence where every number is known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from tabular import NEXT, REWARD, TERMINAL, TabularMDP, TabularState, perfect_agent
from value_error_by_hand import COLD, GAMMA, HORIZON, bench_of, decode, greedy_table, walk

from muscope.agent import Prediction, TrueModel
from muscope.agent.base import Foretold
from muscope.config import EvaluateConfig
from muscope.envs import CartPole
from muscope.errors import ConfigError
from muscope.evaluation.equivalence import UNITS, can_ask_others, functions_of
from muscope.experiments import equivalence, own_policy
from muscope.experiments.equivalence import Equivalence
from muscope.experiments.own_policy import OwnPolicy

ELSEWHERE = np.array([[2, 1], [3, 0], [1, 3], [4, 2], [0, 3]])
"""Where another model thinks that actions lead, wrong everywhere; it goes on after the end."""
VALUES = np.array([3.0, 1.0, 4.0, 2.0, 1.5])
"""Of the five states; at the end it is wrong."""
OTHERS = np.array([-1.0, 0.5, 2.0, 5.0, 0.25])


def agent(seed, value=VALUES, following=ELSEWHERE, reward=REWARD):
    logits = np.random.default_rng(seed).normal(size=(5, 2))
    return perfect_agent(logits, value, reward, following)


def both_ways(start, actions, following, reward, value, at_the_end):
    """What h true steps and a value come to, and what the model says, for h = 1..; by hand.

    ``at_the_end`` is whether the model's value counts after the true end.
    """
    state, z, over, true, told = start, start, False, 0.0, 0.0
    truths, words = [], []
    for k, action in enumerate(actions):
        true += GAMMA**k * REWARD[state, action]
        told += GAMMA**k * reward[z, action]
        state, z = NEXT[state, action], following[z, action]
        over = over or TERMINAL[state]
        power = GAMMA ** (k + 1)
        truths.append(true + power * (0.0 if over else value[state]))
        words.append(told + power * (value[z] if at_the_end or not over else 0.0))
    return np.array(truths), np.array(words)


def difference(start, actions, following=ELSEWHERE, reward=REWARD, value=VALUES, at_the_end=True):
    true, told = both_ways(start, actions, following, reward, value, at_the_end)
    return true - told


def rows(table, agent=0, **where):
    found = [row for row in table.to_pylist() if row["agent"] == agent]
    return [row for row in found if all(row[name] == value for name, value in where.items())]


def column(found, name):
    return np.array([row[name] for row in found])


def starts_of(bench, step, settings, agent=0):
    return np.asarray(bench.on_policy(step).states.index[agent])[: settings.states]


FIRST = agent(4)
SECOND = agent(5, value=OTHERS, following=NEXT)
LOOK = Equivalence(states=5, sequences=3, functions=2)


@pytest.fixture(scope="module")
def shared():
    """Two checkpoints of deterministic policies, and their tables."""
    bench = bench_of([FIRST, SECOND], COLD)
    assert (greedy_table(bench, FIRST) != greedy_table(bench, SECOND)).any()
    return bench, [equivalence.run(bench, LOOK, step)["equivalence"] for step in (0, 4)]


def test_a_deterministic_policy_has_its_closed_form(shared):
    bench, (table, _) = shared
    action_of = greedy_table(bench, FIRST)
    for number in (0, 1):
        starts = starts_of(bench, 0, LOOK, number)
        assert len(starts) == 5
        errors = np.abs([difference(s, walk(s, action_of)) for s in starts])
        found = rows(table, number, policy="own", function="own")
        np.testing.assert_array_equal(column(found, "horizon"), [1, 2, 3, 4])
        np.testing.assert_allclose(column(found, "error"), errors.mean(0), atol=3e-3)
        np.testing.assert_allclose(column(found, "absolute_error"), errors.mean(0), atol=3e-3)
        np.testing.assert_allclose(column(found, "squared_error"), (errors**2).mean(0), atol=2e-2)
        np.testing.assert_allclose(column(found, "standard_error"), 0.0, atol=1e-5)
        wanted = errors.std(0, ddof=1) / np.sqrt(5)
        np.testing.assert_allclose(column(found, "states_error"), wanted, atol=3e-3)
        true = np.array(
            [both_ways(s, walk(s, action_of), ELSEWHERE, REWARD, VALUES, True)[0] for s in starts]
        )
        np.testing.assert_allclose(column(found, "spread"), true.std(0), atol=3e-3)
        assert errors.mean() > 0.1


def test_its_reward_part_is_figure_3_and_the_parts_add_up(shared):
    bench, (table, _) = shared
    found = rows(table, policy="own", function="own")
    action_of = greedy_table(bench, FIRST)
    starts = starts_of(bench, 0, LOOK)
    whole = np.array([difference(s, walk(s, action_of)) for s in starts])
    rewards = np.array([difference(s, walk(s, action_of), value=np.zeros(5)) for s in starts])
    np.testing.assert_allclose(column(found, "rewards_error"), np.abs(rewards).mean(0), atol=3e-3)
    wanted = np.abs(whole - rewards).mean(0)
    np.testing.assert_allclose(column(found, "value_error"), wanted, atol=3e-3)
    assert wanted.mean() > 0.1
    # Of all on-policy states the reward's part is Figure 3's error.
    every = Equivalence(states=bench.evaluate.states, sequences=3, functions=2)
    found = rows(equivalence.run(bench, every, 0)["equivalence"], policy="own", function="own")
    figure3 = own_policy.run(bench, OwnPolicy(sequences=3), 0)["figure3"].to_pylist()[:HORIZON]
    np.testing.assert_allclose(
        column(found, "rewards_error"), column(figure3, "error"), rtol=1e-4, atol=1e-4
    )


def test_rewards_alone_can_be_blind_to_a_model_that_loses_its_way():
    """A world that pays 1 at every step, as Cart Pole: Definition 2 is 0, a search's error not."""
    model = agent(2, reward=np.ones((5, 2)))

    class Paying(TabularMDP):
        def step(self, state, action):
            moved = super().step(state, action)
            return moved._replace(reward=jnp.float32(1.0), terminated=jnp.array(False))

    bench = bench_of([model], 1.0, environment=Paying())
    settings = Equivalence(states=6, sequences=2, functions=2)
    table = equivalence.run(bench, settings, 0)["equivalence"]
    for name in ("own", "random"):
        # Of the second agent, whose states differ: where all are one, random functions are flat.
        found = rows(table, 1, policy="uniform", function=name)
        np.testing.assert_allclose(column(found, "rewards_error"), 0.0, atol=2e-3)
        assert column(found, "error").mean() > 0.2


def expectation(start, policy, **how):
    """|E(difference)| and E|difference| for h = 1.. over all sequences of a policy [5, A]."""
    mean, absolute = np.zeros(HORIZON), np.zeros(HORIZON)
    for actions in itertools.product((0, 1), repeat=HORIZON):
        probability, state = 1.0, start
        for action in actions:
            probability *= policy[state, action]
            state = NEXT[state, action]
        # Of shorter horizons the later actions do not matter: their probabilities add up to 1.
        mean += probability * difference(start, actions, **how)
        absolute += probability * np.abs(difference(start, actions, **how))
    return np.abs(mean), absolute


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_prior_and_uniform_actions_converge_to_their_expectations():
    model = agent(3)
    bench = bench_of([model], 1.0, states=4)
    settings = Equivalence(states=4, sequences=4000, functions=0)
    table = equivalence.run(bench, settings, 0)["equivalence"]
    prior = softmax(np.random.default_rng(3).normal(size=(5, 2)))
    starts = starts_of(bench, 0, settings)
    for name, policy in (("prior", prior), ("uniform", np.full((5, 2), 0.5))):
        found = rows(table, policy=name, function="own")
        exact = np.array([expectation(s, policy) for s in starts])
        noise = column(found, "standard_error")
        assert (noise[1:] > 0).all()
        assert (noise < 0.1).all()
        for i, measured in enumerate(("error", "absolute_error")):
            wanted = exact[:, i].mean(0)
            assert (np.abs(column(found, measured) - wanted) < 3 * noise + 5e-3).all(), measured


def test_other_checkpoints_lend_their_policy_and_their_value(shared):
    """The model's own transitions and latent states; the other's actions, or the other's f."""
    bench, (table, last) = shared
    starts = starts_of(bench, 0, LOOK)
    own, others = greedy_table(bench, FIRST), greedy_table(bench, SECOND)
    for policy, step, action_of in (("own", 0, own), ("other", 4, others)):
        for function, at, value in (("own", 0, VALUES), ("other", 4, OTHERS)):
            found = rows(table, policy=policy, function=function)
            assert {row["policy_step"] for row in found} == {step}
            assert {row["function_step"] for row in found} == {at}
            errors = np.abs([difference(s, walk(s, action_of), value=value) for s in starts])
            np.testing.assert_allclose(column(found, "error"), errors.mean(0), atol=3e-3)
    # Policies own, prior, uniform, other; functions own, two random, other; of two agents.
    assert table.num_rows == 2 * 4 * 4 * HORIZON
    # The last checkpoint has no other one, and is not asked twice.
    assert set(last["policy"].to_pylist()) == {"own", "prior", "uniform"}
    assert set(last["function"].to_pylist()) == {"own", "random"}
    named = Equivalence(states=5, sequences=3, functions=2, others=(0,))
    found = rows(equivalence.run(bench, named, 4)["equivalence"], policy="other")
    assert {row["policy_step"] for row in found} == {0}


def test_random_functions_are_drawn_scaled_and_silent_about_ends(shared):
    """By NumPy: a hidden layer on the latent state, with the own value's mean and spread."""
    bench, (table, _) = shared
    starts = starts_of(bench, 0, LOOK)
    action_of = greedy_table(bench, FIRST)
    key = jax.random.fold_in(jax.random.key(bench.evaluate.seed), equivalence.FUNCTIONS)
    keys = jax.random.split(jax.random.fold_in(key, equivalence.STREAM), 2)
    own = VALUES[starts]
    assert own.std() > 0
    for number in (0, 1):
        hidden, out = jax.random.split(keys[number])
        hidden = np.asarray(jax.random.normal(hidden, (5, UNITS))) * np.sqrt(2 / 5)
        out = np.asarray(jax.random.normal(out, (UNITS,))) * np.sqrt(2 / UNITS)
        raw = np.maximum(np.eye(5) @ hidden, 0) @ out
        there = raw[starts]
        value = own.mean() + own.std() / there.std() * (raw - there.mean())
        errors = np.abs(
            [difference(s, walk(s, action_of), value=value, at_the_end=False) for s in starts]
        )
        found = rows(table, policy="own", function="random", number=number)
        np.testing.assert_allclose(column(found, "error"), errors.mean(0), rtol=2e-3, atol=5e-3)
    assert {row["function_step"] for row in rows(table, function="random")} == {0}


@pytest.mark.parametrize("bias", [0.0, 0.25])
def test_a_perfect_model_with_a_consistent_value_has_no_error(bias):
    """Cart Pole as its own model, a value that is 0 at the end: on all policies, for all functions,
    through ends.  A constant bias of rewards gives its discounted sum.
    """
    environment = CartPole()

    def predict(z):
        lean = z.physics[2] + z.physics[3]
        value = jnp.where(z.terminated, 0.0, 20.0 * (1.0 - jnp.abs(lean)))
        return Prediction(jnp.stack([-lean, lean]), value)

    model = TrueModel(environment, decode, predict, bias)
    bench = bench_of([model, model], 1.0, environment=environment)
    settings = Equivalence(states=6, sequences=4, horizon=30, others=(0,))
    table = equivalence.run(bench, settings, 4)["equivalence"]
    assert len(rows(table)) == 4 * 5 * 30
    uniform = rows(table, policy="uniform", function="own")
    assert 0.2 < uniform[-1]["ended"] < 1.0
    expected = bias * np.cumsum(GAMMA ** np.arange(30))
    for row in rows(table):
        assert row["error"] == pytest.approx(expected[row["horizon"] - 1], abs=2e-4)
        assert row["value_error"] == pytest.approx(0.0, abs=2e-4)
    assert np.ptp(column(uniform, "spread")) > 0


def test_functions_are_asked_in_the_tables_order():
    model, other = agent(7), agent(8, value=OTHERS)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), other, other)
    roots = jnp.eye(5)
    functions = functions_of(model, stacked, roots, jax.random.key(0), 3)
    values = np.asarray(jax.vmap(functions.of)(roots))
    assert values.shape == (5, 6)
    np.testing.assert_array_equal(functions.told_of_ends, [True, False, False, False, True, True])
    np.testing.assert_allclose(values[:, 0], VALUES, atol=2e-3)
    np.testing.assert_allclose(values[:, 4:], np.stack([OTHERS] * 2, axis=1), atol=2e-3)
    np.testing.assert_allclose(values[:, 1:4].mean(0), VALUES.mean(), rtol=1e-3)
    np.testing.assert_allclose(values[:, 1:4].std(0), VALUES.std(), rtol=1e-3)
    assert functions_of(model, None, roots, jax.random.key(0), 0).told_of_ends.shape == (1,)


def test_latent_states_that_carry_their_values_are_asked_for_no_others():
    assert can_ask_others(TabularState(jnp.int32(0)))
    assert not can_ask_others(Foretold(jnp.zeros(3), jnp.zeros(2), jnp.zeros(())))


def test_strange_other_checkpoints_are_refused():
    subject = bench_of([agent(0), agent(1)], COLD).subject
    with pytest.raises(ConfigError, match=r"equivalence.others names \[3\]; .* \[0, 4\]"):
        equivalence.steps(subject, EvaluateConfig(), Equivalence(others=(3,)))
    few = EvaluateConfig(checkpoints=(0,))
    with pytest.raises(ConfigError, match=r"equivalence.others names \[4\]; .* \[0\]"):
        equivalence.steps(subject, few, Equivalence(others=(4,)))
    assert equivalence.steps(subject, EvaluateConfig(), Equivalence(others=(4,))) == (0, 4)


def test_it_is_drawn_with_its_numbers(shared):
    _, made = shared
    table = pa.concat_tables(made)
    words = equivalence.caption({"equivalence": table})
    both = [
        rows(table, number, step=4, policy="own", function="own", horizon=HORIZON)[0]["error"]
        for number in (0, 1)
    ]
    assert f"the error is {np.mean(both):.3g}" in words
    assert "random functions (2)" in words
    assert "Other policies and functions are those of step 4." in words
    figure = equivalence.plot({"equivalence": table})
    assert len(figure.axes) == 3
    for axes in figure.axes:
        assert axes.get_lines() or axes.containers
