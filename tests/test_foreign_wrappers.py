"""Histories against a plain loop over a game; reward scales against the definition."""

from collections import deque
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope.agent.base import Prediction
from muscope.agent.true_model import TrueModel
from muscope.envs import CartPole, CartPoleState, Trainable
from muscope.envs.base import Environment, Resumed, Spec, Transition
from muscope.envs.episode import advance, start
from muscope.errors import ConfigError
from muscope.foreign import Scaled, WithHistory


def plain_history(seen, actions, count, kind, code, nothing):
    """The history after ``len(actions)`` steps of a game, by the docstring's words.

    ``nothing(i)`` is (observation, code) of i steps before the game began.
    """

    def at(t):
        return seen[t] if t >= 0 else nothing()[0]

    def led_to(t):
        return code(actions[t - 1]) if t > 0 else nothing()[1]

    now, parts = len(actions), []
    for i in range(count):
        parts.append(at(now - i))
        if kind == "led":
            parts.append(led_to(now - i))
        if kind == "taken" and i > 0:
            parts.append(led_to(now - i + 1) if now - i >= 0 else nothing()[1])
    return np.concatenate([np.ravel(part) for part in parts])


@pytest.mark.parametrize("padding", ["first", "zeros"])
@pytest.mark.parametrize("kind", ["led", "taken", "none"])
def test_history_of_a_vector(kind, padding):
    environment = WithHistory(
        CartPole(), 3, actions=kind, encode=lambda a: (a + 1) / 2, padding=padding
    )
    assert isinstance(environment, Environment)
    state = environment.reset(jax.random.key(3))
    step, observe = jax.jit(environment.step), jax.jit(environment.observe)
    first = np.asarray(state.inner.physics)

    def nothing():
        return (first, 0.5) if padding == "first" else (np.zeros(4), 0.0)

    seen, actions = [first], []
    for action in (1, 1, 0, 1, 0, 0, 0):
        expected = plain_history(seen, actions, 3, kind, lambda a: (a + 1) / 2, nothing)
        assert environment.spec.observation_shape == expected.shape
        np.testing.assert_allclose(observe(state), expected, rtol=1e-6)
        state, reward, terminated = step(state, jnp.int32(action))
        assert (reward, terminated) == (1.0, False)
        seen.append(np.asarray(state.inner.physics))
        actions.append(action)


def test_a_published_packages_layout():
    """muzero-general's stacked observations: the present image [C, H, W], then each past one and a
    plane of the action taken there, a / A; zeros before the game.
    """
    environment = WithHistory(
        CartPole(), 3, actions="taken", padding="zeros", shape=(1, 2, 2), axis=0
    )
    state = environment.reset(jax.random.key(0))
    images, planes = deque([np.zeros((1, 2, 2))] * 2, 2), deque([np.zeros((1, 2, 2))] * 2, 2)
    for action in (1, 0, 1):
        now = np.asarray(state.inner.physics).reshape(1, 2, 2)
        pairs = zip(reversed(images), reversed(planes), strict=True)
        expected = np.concatenate([now, *(x for pair in pairs for x in pair)])
        np.testing.assert_array_equal(environment.observe(state), expected)
        images.append(now)
        planes.append(np.full((1, 2, 2), action / 2))
        state = environment.step(state, jnp.int32(action)).state


def test_codes_may_be_vectors_and_channels_last():
    environment = WithHistory(
        CartPole(), 2, encode=lambda a: jax.nn.one_hot(a, 2), shape=(2, 2, 1), axis=-1
    )
    state = environment.step(environment.reset(jax.random.key(0)), jnp.int32(1)).state
    observation = environment.observe(state)
    assert environment.spec.observation_shape == observation.shape == (2, 2, 6)
    # Channels: the present component, the action 1 as a one-hot, the past one, padding's action 0.
    np.testing.assert_array_equal(observation[1, 0, jnp.array([1, 2, 4, 5])], [0, 1, 1, 0])
    now, before = state.inner.physics, state.observations[1].ravel()
    np.testing.assert_array_equal(observation[..., 0].ravel(), now)
    np.testing.assert_array_equal(observation[..., 3].ravel(), before)


def test_the_end_is_absorbing():
    environment = WithHistory(CartPole(), 2)
    state = environment.reset(jax.random.key(0))
    state = state._replace(inner=CartPoleState(jnp.array([2.39, 9.0, 0.0, 0.0]), jnp.array(False)))
    state, reward, terminated = environment.step(state, jnp.int32(1))
    assert (reward, terminated) == (1.0, True)
    same, reward, terminated = environment.step(state, jnp.int32(0))
    assert (reward, terminated) == (0.0, True)
    jax.tree.map(np.testing.assert_array_equal, same, state)


class LivesState(NamedTuple):
    steps: jax.Array
    ended: jax.Array


class Lives:
    """A game of 6 steps whose training view ends after every second one and doubles rewards."""

    def __init__(self, training=False):
        self.spec = Spec("lives", 2, (1,), 40 if training else 50)
        self._training = training

    def reset(self, key):
        return LivesState(jnp.zeros(()), jnp.array(False))

    def step(self, state, action):
        steps = state.steps + 1
        ended = (steps >= 6) | (self._training & (steps % 2 == 0))
        moved = LivesState(steps, ended)
        moved = jax.tree.map(lambda old, new: jnp.where(state.ended, old, new), state, moved)
        reward = jnp.where(state.ended, 0.0, 2.0 if self._training else 1.0)
        return Transition(moved, reward, moved.ended)

    def observe(self, state):
        return state.steps[None]

    def training(self):
        return Lives(training=True)

    def resume(self, state):
        over = state.steps >= 6
        return Resumed(state._replace(ended=over), over, jnp.ones(()))


def test_a_training_view_keeps_the_whole_games_history():
    environment = WithHistory(Lives(), 3).training()
    assert isinstance(environment, Trainable)
    assert environment.spec.time_limit == 40
    episode = start(environment, jax.random.key(0))
    ends, finished, histories, scores = [], [], [], []
    for _ in range(6):
        histories.append(environment.observe(episode.state)[::2].tolist())
        episode, outcome = advance(environment, episode, jnp.int32(0), jax.random.key(1))
        ends.append(bool(outcome.terminated))
        finished.append(bool(outcome.finished))
        scores.append(float(outcome.score))
    assert ends == [False, True] * 3
    assert finished == [False] * 5 + [True]
    assert histories[4] == [4, 3, 2]
    assert scores[-1] == 6.0
    assert environment.observe(episode.state)[::2].tolist() == [0, 0, 0]


def test_without_a_training_view_nothing_changes():
    plain, wrapped = CartPole(), WithHistory(CartPole(), 2)
    ours, theirs = (start(e, jax.random.key(5)) for e in (wrapped, plain))
    steps = {e: jax.jit(lambda x, k, e=e: advance(e, x, jnp.int32(1), k)) for e in (wrapped, plain)}
    for i in range(15):
        ours, our = steps[wrapped](ours, jax.random.key(i))
        theirs, their = steps[plain](theirs, jax.random.key(i))
        assert our == their
        np.testing.assert_array_equal(ours.state.inner.physics, theirs.state.physics)
    assert float(theirs.elapsed) < 15


def test_impossible_histories():
    with pytest.raises(ConfigError, match="at least 1"):
        WithHistory(CartPole(), 0)
    with pytest.raises(ConfigError, match="padding is 'last'"):
        WithHistory(CartPole(), 2, padding="last")


def test_scaled_multiplies_rewards_and_values_only():
    def decode(x):
        return CartPoleState(x, jnp.array(False))

    def predict(state):
        return Prediction(jnp.array([1.0, 2.0]), jnp.float32(7.0))

    truth = TrueModel(CartPole(), decode, predict)
    agent = Scaled(truth, 3.0)
    z = agent.represent(jnp.zeros(4))
    following, reward = agent.step(z, jnp.int32(1))
    jax.tree.map(np.testing.assert_array_equal, following, truth.step(z, jnp.int32(1))[0])
    assert (reward, agent.predict(z).value) == (3.0, 21.0)
    np.testing.assert_array_equal(agent.predict(z).policy_logits, [1.0, 2.0])
