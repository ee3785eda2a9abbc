"""The lander on flat terrain against muzero-general's numbers, and Box2D on the same ground."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_lunar_lander_flight import Quiet, gymnasium

from muscope import envs
from muscope.envs.lunar_lander import snapshot
from muscope.envs.lunar_lander.environment import MOST_PUSH, LunarLander, LunarLanderOptions

lander_module = pytest.importorskip("gymnasium.envs.box2d.lunar_lander")
SEEDS = (0, 1, 2, 5, 6)


def muzero_generals_heights():
    """Ground at H / 3, five of twelve points at H / 4, each the sum of three times 0.33."""
    height = 400 / 30
    points = [height / 3] * 3 + [height / 4] * 5 + [height / 3] * 4
    return np.array([0.33 * (points[i - 1] + points[i] + points[i + 1]) for i in range(11)])


class Flat(Quiet):
    """A generator whose terrain draws are all a third of the screen's height."""

    def uniform(self, low=0.0, high=1.0, size=None):
        value = super().uniform(low, high, size)
        return value if size is None else np.full(size, 400 / 30 / 3)


def flat_box2d(seed):
    """Gymnasium's lander on flat ground after its reset, what it saw and the first push."""
    lander = gymnasium.make("LunarLander-v3").unwrapped
    lander._np_random = Flat(seed)
    observation, _ = lander.reset()
    return lander, observation, np.array(lander.np_random.drawn[1:], np.float32)


@pytest.fixture(scope="module")
def environment():
    return envs.make(envs.EnvironmentConfig("lunar-lander", options={"terrain": "flat"}))


@pytest.fixture(scope="module")
def states(environment):
    reset = jax.jit(jax.vmap(environment.reset))
    return reset(jax.random.split(jax.random.key(0), 256))


def test_the_ground_is_muzero_generals(states):
    heights = jax.vmap(snapshot.unpack)(states.world).heights
    expected = muzero_generals_heights().astype(np.float32)
    np.testing.assert_array_equal(heights, np.tile(expected, (256, 1)))


def test_the_ground_is_box2ds_with_the_same_points(states):
    lander, _, _ = flat_box2d(0)
    edges = [fixture.shape.vertices for fixture in lander.moon.fixtures]
    truth = {x: y for ends in edges for x, y in ends if y != 0}
    heights = snapshot.unpack(states.world[0]).heights
    assert truth == {2.0 * i: float(y) for i, y in enumerate(heights)}


def test_the_first_push_is_even_on_both_axes(states):
    """After the hidden step a push of 1000 N has made 1000 / mass / 50 m/s of the lander."""
    world = jax.vmap(snapshot.unpack)(states.world)
    speed = np.asarray(world.bodies.vx[0])
    most = 0.207612455 * MOST_PUSH / 50
    assert 0.5 * most < np.abs(speed).max() < most
    np.testing.assert_allclose(speed.mean(), 0, atol=0.15 * most)
    assert len(np.unique(speed)) == 256


def test_episodes_are_box2ds_on_that_ground(environment):
    """Landings and crashes with the same end and return, most of them to the last step."""
    from muscope.envs.lunar_lander.environment import begin

    start, step = jax.jit(begin), jax.jit(environment.step)
    heights = jnp.asarray(muzero_generals_heights(), jnp.float32)
    same = 0
    for seed in SEEDS:
        lander, observation, force = flat_box2d(seed)
        state = start(heights, jnp.asarray(force))
        np.testing.assert_allclose(environment.observe(state), observation, atol=1e-5)
        rng, gap = np.random.default_rng(seed), 0.0
        for _ in range(1000):
            action = int(lander_module.heuristic(lander, observation))
            if rng.random() < (0.0, 0.1, 1.0)[seed % 3]:
                action = int(rng.integers(4))
            observation, reward, over, _, _ = lander.step(action)
            state, ours, ended = step(state, jnp.int32(action))
            gap += float(ours) - reward
            if over or ended:
                break
        same += over == bool(ended) and abs(gap) < 1e-2
    assert same >= len(SEEDS) - 2


def test_options_do_not_change_the_random_lander():
    plain, named = LunarLander(), LunarLander(LunarLanderOptions("random", 700))
    assert (plain.spec.time_limit, named.spec.time_limit) == (1_000, 700)
    key = jax.random.key(7)
    for a, b in zip(plain.reset(key), named.reset(key), strict=True):
        np.testing.assert_array_equal(a, b)
