"""Whole episodes of our world beside Box2D's, from the same start and the same actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_lunar_lander_flight import box2d, terrain_of

from muscope.envs.base import Environment
from muscope.envs.lunar_lander.environment import LunarLander, begin, terrain

pytest.importorskip("Box2D")
lander_module = pytest.importorskip("gymnasium.envs.box2d.lunar_lander")
SEEDS = (0, 1, 2, 3, 4, 6, 7, 8, 10, 11)


@pytest.fixture(scope="module")
def step():
    return jax.jit(LunarLander().step)


@pytest.fixture(scope="module")
def agreement(step):
    """Per seed: the same end, the difference of the returns, the worst one of observations."""
    start = jax.jit(begin)
    return {seed: episode(seed, start, step) for seed in SEEDS}


def episode(seed, start, step):
    """Policies from Gymnasium's heuristic to random play, until either world ends."""
    lander, observation, force = box2d(seed)
    state = start(terrain_of(lander), jnp.asarray(force))
    rng, random_share = np.random.default_rng(seed + 1000), (0.0, 0.1, 0.3, 1.0)[seed % 4]
    gap, worst = 0.0, 0.0
    for _ in range(1000):
        action = int(lander_module.heuristic(lander, observation))
        if rng.random() < random_share:
            action = int(rng.integers(4))
        observation, reward, over, _, _ = lander.step(action)
        state, ours, ended = step(state, jnp.int32(action))
        gap += float(ours) - reward
        worst = max(worst, np.abs(LunarLander().observe(state) - observation).max())
        if over or ended:
            break
    return over == bool(ended), abs(gap), worst


def test_episodes_end_at_the_same_step_with_the_same_return_as_in_box2d(agreement):
    """Landings, crashes and flights out of sight; most of them agree to the last step.

    Not all can: Box2D does not agree with itself when the first push changes by 1e-7, and
    rounding differs between processors.  Without times of impact a quarter would agree.
    """
    assert sum(same and gap < 1e-2 for same, gap, _ in agreement.values()) >= 6
    assert np.median([worst for _, _, worst in agreement.values()]) < 1e-2


def test_the_environment_keeps_the_contract(step):
    environment = LunarLander()
    assert isinstance(environment, Environment)
    state = jax.jit(environment.reset)(jax.random.key(0))
    assert environment.observe(state).shape == environment.spec.observation_shape
    for _ in range(400):
        state, reward, terminated = step(state, jnp.int32(0))
        if terminated:
            break
    assert terminated
    assert float(reward) == -100.0
    again = step(state, jnp.int32(2))
    assert (float(again.reward), bool(again.terminated)) == (0.0, True)
    for a, b in zip(jax.tree.leaves(again.state), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_terrain_is_that_of_box2d_and_the_same_in_any_program():
    """Its float64 inside programs of float32: mapped, compiled and scanned in every order."""
    lander, _, _ = box2d(0)
    edges = [fixture.shape.vertices for fixture in lander.moon.fixtures]
    truth = {x: y for ends in edges for x, y in ends if y != 0}
    ours = terrain_of(lander)
    assert truth == {2.0 * i: float(y) for i, y in enumerate(ours)}

    draws = jax.random.uniform(jax.random.key(3), (6, 12), maxval=6.0)
    inside = jax.vmap(lambda d: jax.lax.scan(lambda c, _: (c, terrain(d)), 0, None, 1)[1][0])
    expected = jax.vmap(terrain)(draws)
    assert expected.dtype == jnp.float32
    for program in (jax.vmap(jax.jit(terrain)), jax.jit(jax.vmap(terrain)), jax.jit(inside)):
        np.testing.assert_array_equal(program(draws), expected)
