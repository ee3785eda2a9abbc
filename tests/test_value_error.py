"""The value error's pure functions against closed forms on an enumerable MDP."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive_search import naive_search
from scipy.special import ndtr
from tabular import NEXT, TabularMDP, TabularState, perfect_agent
from value_error_by_hand import GAMMA, WRONG, by_hand, decode

from muscope.agent import TrueModel
from muscope.config import SearchConfig
from muscope.envs import CartPole
from muscope.evaluation.distinct import ask_distinct, numbered, part_size
from muscope.evaluation.sequences import (
    all_sequences,
    behaviour_at,
    prefix_of,
    sequence_log_probabilities,
    true_tree,
)
from muscope.evaluation.value_error import (
    Rewards,
    follow,
    policy_error,
    predicted_rewards,
    score,
    sequence_error,
    split_at_the_end,
    values,
)


def test_values_are_discounted_running_sums():
    np.testing.assert_allclose(values(jnp.array([1.0, 2.0, 4.0]), 0.5), [1.0, 2.0, 3.0])


@pytest.mark.parametrize("start", range(4))
def test_every_sequences_error_is_its_closed_form(start):
    environment, agent = TabularMDP(), perfect_agent(reward=WRONG)
    sequences = all_sequences(2, 4)
    state = TabularState(jnp.int32(start))
    scored = jax.vmap(lambda a: score(environment, agent, state, a))(jnp.asarray(sequences))
    for i, actions in enumerate(itertools.product((0, 1), repeat=4)):
        assert tuple(sequences[i]) == actions
        true, ended = by_hand(start, actions)
        predicted, _ = by_hand(start, actions, WRONG)
        np.testing.assert_array_equal(scored.ended[i], ended)
        np.testing.assert_allclose(scored.true[i], true, rtol=1e-6)
        np.testing.assert_allclose(scored.predicted[i], predicted, atol=1e-4)
        expected = np.abs(np.cumsum(GAMMA ** np.arange(4) * (true - predicted)))
        error = sequence_error(scored.true[i], scored.predicted[i], GAMMA)
        np.testing.assert_allclose(error, expected, atol=3e-4)


def test_the_mean_is_taken_before_the_absolute_value():
    """Two sequences, off by +1 and -1 at the first step, both off by +2 at the second."""
    rewards = Rewards(
        true=jnp.zeros((2, 2)),
        predicted=jnp.array([[-1.0, -2.0], [1.0, -2.0]]),
        ended=jnp.zeros((2, 2), bool),
    )
    errors = policy_error(rewards, 0.5)
    np.testing.assert_allclose(errors.error, [0.0, 1.0], atol=1e-7)
    np.testing.assert_allclose(errors.absolute_error, [1.0, 1.0])
    # Differences are (1, -1) and (2, 0): both with standard deviation sqrt(2).
    np.testing.assert_allclose(errors.standard_error, [1.0, 1.0], rtol=1e-6)


def test_one_sequence_has_no_standard_error_and_no_halves():
    rewards = Rewards(jnp.ones((1, 2)), jnp.zeros((1, 2)), jnp.zeros((1, 2), bool))
    errors = policy_error(rewards, 1.0)
    for unknown in (errors.standard_error, errors.squared_error, errors.squared_variance):
        assert np.isnan(unknown).all()


def test_halves_of_an_odd_number_are_the_first_and_the_rest():
    """Differences 1, 2, 6, 7, 8 with variance 9.7: means 1.5 of two and 7 of three."""
    true = jnp.array([1.0, 2.0, 6.0, 7.0, 8.0])[:, None]
    errors = policy_error(Rewards(true, jnp.zeros((5, 1)), jnp.zeros((5, 1), bool)), 1.0)
    np.testing.assert_allclose(errors.squared_error, [1.5 * 7.0], rtol=1e-6)
    a, b = 9.7 / 2, 9.7 / 3
    np.testing.assert_allclose(errors.squared_variance, [10.5 * (a + b) + a * b], rtol=1e-5)


@pytest.mark.parametrize("mean", [0.0, 0.25, 1.0])
def test_split_halves_are_not_biased_as_an_absolute_value_is(mean):
    """Normal differences of known mean m, R = 5: the folded normal's closed form for |mean over R|
    and m^2 for the halves' product, whose spread the Monte Carlo variance does not understate.
    """
    states, count = 40_000, 5
    drawn = mean + np.random.default_rng(0).normal(size=(states, count, 1)).astype(np.float32)
    zeros = jnp.zeros((states, count, 1))
    errors = jax.vmap(lambda r: policy_error(r, 1.0))(
        Rewards(jnp.asarray(drawn), zeros, zeros.astype(bool))
    )
    se = 1 / np.sqrt(count)
    folded = se * np.sqrt(2 / np.pi) * np.exp(-(mean**2) / (2 * se**2))
    folded += mean * (1 - 2 * ndtr(-mean / se))
    assert float(errors.error.mean()) == pytest.approx(folded, abs=0.01)
    spread = np.sqrt(mean**2 * (1 / 2 + 1 / 3) + 1 / 6)
    noise = spread / np.sqrt(states)
    assert float(errors.squared_error.mean()) == pytest.approx(mean**2, abs=4 * noise)
    assert np.std(errors.squared_error) == pytest.approx(spread, rel=0.03)
    told = float(np.sqrt(errors.squared_variance.mean()))
    assert spread * 0.97 < told < 1.5 * spread


def test_the_two_parts_of_an_error_meet_at_the_true_end():
    rewards = Rewards(
        true=jnp.array([1.0, 1.0, 0.0]),
        predicted=jnp.array([1.0, 0.5, 0.25]),
        ended=jnp.array([False, False, True]),
    )
    alive, over = split_at_the_end(rewards, 0.5)
    np.testing.assert_allclose(alive, [0.0, -0.25, -0.25])
    np.testing.assert_allclose(over, [0.0, 0.0, 0.0625])
    np.testing.assert_allclose(alive + over, values(rewards.predicted - rewards.true, 0.5))


def test_prefixes_are_numbered_breadth_first():
    prefixes = [p for length in range(3) for p in itertools.product(range(3), repeat=length)]
    assert len(prefixes) == 13 == (3**3 - 1) // 2
    sequences = all_sequences(3, 3)
    for s, nodes in enumerate(prefix_of(3, 3)):
        for step, node in enumerate(nodes):
            assert prefixes[node] == tuple(sequences[s][:step])


@pytest.mark.parametrize("start", range(4))
def test_the_true_tree_holds_every_sequences_path(start):
    tree = true_tree(TabularMDP(), TabularState(jnp.int32(start)), 4)
    places = np.asarray(tree.nodes.index)[prefix_of(2, 4)]
    for i, actions in enumerate(all_sequences(2, 4)):
        reward, ended = by_hand(start, actions)
        np.testing.assert_allclose(tree.reward[i], reward)
        np.testing.assert_array_equal(tree.ended[i], ended)
        state = start
        for step, action in enumerate(actions):
            assert places[i, step] == state
            state = NEXT[state, action]


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_probabilities_are_a_brute_force_product_over_true_states(temperature):
    """One naive search per state; the product of Equation 1 along the true path."""
    rng = np.random.default_rng(0)
    logits, value = rng.normal(size=(5, 2)), rng.normal(size=5) + 2.0
    agent = perfect_agent(logits=logits, value=value, reward=WRONG)
    environment, config = TabularMDP(), SearchConfig(simulations=20, tie_noise=0.0)
    policy = {}
    for state in range(5):
        visits, _, _ = naive_search(
            lambda s, a: (int(NEXT[s, a]), float(WRONG[s, a])),
            lambda s: logits[s],
            lambda s: float(value[s]),
            state,
            20,
            GAMMA,
            config,
        )
        powered = np.asarray(visits) ** (1.0 / temperature)
        policy[state] = powered / powered.sum()

    state, sequences = TabularState(jnp.int32(0)), all_sequences(2, 4)
    nodes = true_tree(environment, state, 4).nodes
    log_policy = behaviour_at(
        environment, agent, nodes, jax.random.key(0), config, GAMMA, temperature, at_once=4
    )
    probability = jnp.exp(sequence_log_probabilities(log_policy, 2, 4))
    for i, actions in enumerate(sequences):
        expected, s = 1.0, 0
        for action in actions:
            expected *= policy[s][action]
            s = int(NEXT[s, action])
        np.testing.assert_allclose(probability[i], expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-5)


def test_very_unlikely_sequences_stay_apart():
    """Probabilities that float32 would call 0 keep their order; unvisited actions tie."""
    log_policy = jnp.log(jnp.array([[1e-10, 1.0 - 1e-10]]).repeat(15, axis=0))
    total = np.asarray(sequence_log_probabilities(log_policy, 2, 4))
    assert total[0] < total[1] < total[3] < total[7] < total[15]
    np.testing.assert_allclose(total[0], 40 * np.log(0.1), rtol=1e-5)
    never = sequence_log_probabilities(jnp.full((15, 2), -jnp.inf), 2, 4)
    assert np.isneginf(never).all()


@pytest.mark.parametrize("bias", [0.0, 0.125])
def test_a_perfect_model_has_no_error_and_a_biased_one_the_biass_sum(bias):
    """Random sequences long enough that most of them end the episode."""
    environment, horizon = CartPole(), 30
    agent = TrueModel(environment, decode, reward_bias=bias)
    keys = jax.random.split(jax.random.key(0), 64)
    states = jax.vmap(environment.reset)(keys)
    actions = jax.random.randint(jax.random.key(1), (64, horizon), 0, 2)
    scored = jax.vmap(lambda s, a: score(environment, agent, s, a))(states, actions)
    assert 0.2 < np.mean(scored.ended[:, -1]) < 1.0
    expected = bias * np.cumsum(GAMMA ** np.arange(horizon))
    error = sequence_error(scored.true, scored.predicted, GAMMA)
    np.testing.assert_allclose(error, np.broadcast_to(expected, error.shape), atol=1e-5)


def test_the_model_is_unrolled_from_the_encoded_observation_along_the_actions():
    agent = perfect_agent(reward=WRONG)
    rewards = predicted_rewards(agent, jax.nn.one_hot(0, 5), jnp.array([0, 1, 1], jnp.int32))
    np.testing.assert_allclose(rewards, [WRONG[0, 0], WRONG[1, 1], WRONG[1, 1]], atol=1e-4)


def test_following_a_policy_acts_on_true_states():
    """Action 0 from state 0 and 3, action 1 elsewhere: 0 -> 1 -> 1 -> 1."""

    def behaviour(states, key):
        action = jnp.where((states.index == 0) | (states.index == 3), 0, 1)
        return jnp.log(jax.nn.one_hot(action, 2))

    states = TabularState(jnp.array([0, 2, 3], jnp.int32))
    actions, path, _, _ = follow(TabularMDP(), behaviour, states, 2, 3, jax.random.key(0))
    expected = np.array([[0, 1, 1], [1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(actions, np.repeat(expected[:, None], 2, axis=1))
    for i, start in enumerate((0, 2, 3)):
        reward, ended = by_hand(start, expected[i])
        for sequence in range(2):
            np.testing.assert_allclose(path.reward[i, sequence], reward)
            np.testing.assert_array_equal(path.ended[i, sequence], ended)


def test_sequences_of_one_state_are_drawn_from_the_policy_each_on_its_own():
    def behaviour(states, key):
        return jnp.log(jnp.where(states.index[:, None] == 0, jnp.array([0.2, 0.8]), 0.5))

    states = TabularState(jnp.zeros(3, jnp.int32))
    actions = follow(TabularMDP(), behaviour, states, 2_000, 2, jax.random.key(0)).actions
    first = actions[..., 0].mean(axis=1)
    np.testing.assert_allclose(first, 0.8, atol=0.04)
    assert len(set(np.asarray(first))) == 3
    # Both actions lead from state 0 to others, where the policy is uniform.
    np.testing.assert_allclose(actions[..., 1].mean(axis=1), 0.5, atol=0.05)


def test_each_class_of_equal_states_is_asked_once():
    asked = []

    def behaviour(states, key):
        jax.debug.callback(lambda x: asked.append(np.asarray(x)), states)
        return jnp.stack([states, -states], axis=1)

    labels = jnp.asarray(np.random.default_rng(0).integers(0, 90, 1_500) * 7, jnp.int32)
    classes = numbered(labels)
    assert sorted(set(np.asarray(classes))) == list(range(len(set(np.asarray(labels)))))
    logits = ask_distinct(behaviour, labels.astype(jnp.float32), classes, jax.random.key(0))
    np.testing.assert_array_equal(logits, np.stack([labels, -labels], axis=1))
    jax.effects_barrier()
    assert len(asked) == 1
    assert asked[0].size == part_size(1_500) == 94
    assert set(asked[0]) == set(np.asarray(labels, np.float32))


def test_classes_of_agents_side_by_side_do_not_mix():
    classes = jnp.stack([jnp.zeros(300, jnp.int32), jnp.arange(300, dtype=jnp.int32)])
    states = jnp.stack([jnp.full(300, 5.0), jnp.arange(300.0)])

    def of_one(states, classes):
        return ask_distinct(lambda s, k: s[:, None], states, classes, jax.random.key(0))

    np.testing.assert_array_equal(jax.vmap(of_one)(states, classes)[..., 0], states)
