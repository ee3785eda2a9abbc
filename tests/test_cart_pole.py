"""Cart Pole against Gymnasium's CartPole-v1, step by step."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope.envs import CartPole, CartPoleState
from muscope.envs import episode as episodes

ENV = CartPole()
STEP = jax.jit(ENV.step)


def balance(observation):
    """A linear controller that keeps the pole up for hundreds of steps."""
    x, x_dot, theta, theta_dot = observation
    return int(0.1 * x + 0.3 * x_dot + 3.0 * theta + theta_dot > 0)


@pytest.mark.parametrize("policy", ["random", "balance"])
def test_every_step_equals_gymnasium(policy):
    oracle = gymnasium.make("CartPole-v1").unwrapped
    rng = np.random.default_rng(0)
    steps = 0
    for seed in range(10):
        observation, _ = oracle.reset(seed=seed)
        for _ in range(500):
            action = balance(observation) if policy == "balance" else int(rng.integers(2))
            ours = STEP(
                CartPoleState(jnp.asarray(oracle.state, jnp.float32), jnp.array(False)), action
            )
            observation, reward, terminated, _, _ = oracle.step(action)
            np.testing.assert_allclose(ENV.observe(ours.state), observation, rtol=1e-5, atol=1e-6)
            assert float(ours.reward) == reward
            assert bool(ours.terminated) == terminated
            steps += 1
            if terminated:
                break
    assert steps > (1000 if policy == "balance" else 100)


def test_whole_episodes_equal_gymnasium():
    """Without reloading the state: float32 against float64 until the pole falls."""
    oracle = gymnasium.make("CartPole-v1").unwrapped
    rng = np.random.default_rng(1)
    for seed in range(20):
        oracle.reset(seed=seed)
        state = CartPoleState(jnp.asarray(oracle.state, jnp.float32), jnp.array(False))
        for _ in range(500):
            action = int(rng.integers(2))
            state, _, ended = STEP(state, action)
            observation, _, terminated, _, _ = oracle.step(action)
            np.testing.assert_allclose(ENV.observe(state), observation, rtol=1e-4, atol=1e-5)
            assert bool(ended) == terminated
            if terminated:
                break


def test_termination_is_absorbing():
    state = CartPoleState(jnp.array([2.39, 5.0, 0.0, 0.0]), jnp.array(False))
    fallen = STEP(state, 1)
    assert bool(fallen.terminated)
    assert float(fallen.reward) == 1.0
    for action in (0, 1):
        after = STEP(fallen.state, action)
        assert float(after.reward) == 0.0
        assert bool(after.terminated)
        np.testing.assert_array_equal(after.state.physics, fallen.state.physics)


def test_a_kept_state_steps_to_identical_bits_alone_and_in_a_batch():
    state = ENV.reset(jax.random.key(3))
    again = STEP(state, 1).state.physics
    np.testing.assert_array_equal(STEP(state, 1).state.physics, again)
    for batch in (1, 3, 64):
        states = jax.tree.map(lambda x, n=batch: jnp.repeat(x[None], n, 0), state)
        stepped = jax.jit(jax.vmap(ENV.step))(states, jnp.ones(batch, jnp.int32))
        np.testing.assert_array_equal(stepped.state.physics, np.tile(again, (batch, 1)))


def test_reset_is_uniform_and_depends_on_the_key_alone():
    physics = jax.vmap(ENV.reset)(jax.random.split(jax.random.key(0), 4000)).physics
    assert np.abs(physics).max() <= 0.05
    np.testing.assert_allclose(np.mean(physics, axis=0), 0, atol=0.003)
    np.testing.assert_allclose(np.std(physics, axis=0), 0.05 / np.sqrt(3), rtol=0.03)


def test_the_time_limit_is_a_truncation_with_a_row_of_its_own():
    """500 transitions, then one row without a transition, then a new episode."""

    def step(carry, _):
        current, key = carry
        x = ENV.observe(current.state)
        action = (0.1 * x[0] + 0.3 * x[1] + 3.0 * x[2] + x[3] > 0).astype(jnp.int32)
        key, sub = jax.random.split(key)
        following, outcome = episodes.advance(ENV, current, action, sub)
        return (following, key), (current.last, current.elapsed, outcome)

    first = episodes.start(ENV, jax.random.key(0))
    _, (last, elapsed, outcome) = jax.lax.scan(step, (first, jax.random.key(1)), None, length=502)
    assert not outcome.terminated.any()
    np.testing.assert_array_equal(np.flatnonzero(last), [500])
    np.testing.assert_array_equal(np.flatnonzero(outcome.finished), [500])
    assert float(outcome.score[500]) == 500.0
    assert float(outcome.reward[500]) == 0.0
    assert int(elapsed[501]) == 0
