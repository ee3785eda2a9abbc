"""Lunar Lander's free flight against Box2D, from the same force and the same actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope.envs.lunar_lander import bodies, joints
from muscope.envs.lunar_lander.environment import terrain
from muscope.envs.lunar_lander.flight import fire, fly, observe

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("Box2D")
pytest.importorskip("pygame")  # Gymnasium asks for it even without rendering


class Quiet:
    """A generator whose dispersion draws count as 0; terrain and initial force are kept."""

    def __init__(self, seed):
        self.generator, self.drawn = np.random.default_rng(seed), []

    def uniform(self, low=0.0, high=1.0, size=None):
        value = self.generator.uniform(low, high, size)
        if len(self.drawn) >= 3:
            return value * 0.0
        self.drawn.append(value)
        return value


def box2d(seed):
    """Gymnasium's lander after its reset, its first observation and the initial force."""
    lander = gymnasium.make("LunarLander-v3").unwrapped
    quiet = Quiet(seed)
    lander._np_random = quiet
    observation, _ = lander.reset()
    return lander, observation, np.array(quiet.drawn[1:], np.float32)


def terrain_of(lander):
    """The heights of our terrain for its draws, m."""
    with jax.enable_x64(True):
        return np.asarray(terrain(jnp.asarray(lander.np_random.drawn[0])))


def touching(lander):
    return any(
        edge.contact.touching for body in (lander.lander, *lander.legs) for edge in body.contacts
    )


@pytest.fixture(scope="module")
def step():
    @jax.jit
    def step(rigid, leg_joints, action, force):
        return fly(fire(rigid, action), leg_joints, force)

    return step


@pytest.mark.parametrize("seed", range(8))
def test_flight_equals_box2d_until_the_first_contact(seed, step):
    """Random actions; the worst observation component is off by less than 1e-4."""
    lander, expected, force = box2d(seed)
    actions = np.random.default_rng(seed)
    rigid, leg_joints = bodies.start(), (joints.start(), joints.start())
    rigid, leg_joints = step(rigid, leg_joints, 0, force)
    steps, worst = 0, np.abs(observe(rigid) - expected[:6]).max()
    while True:
        action = int(actions.integers(4))
        expected, _, terminated, _, _ = lander.step(action)
        if terminated or touching(lander):
            break
        rigid, leg_joints = step(rigid, leg_joints, action, jnp.zeros(2))
        worst = max(worst, np.abs(observe(rigid) - expected[:6]).max())
        steps += 1
    assert steps > 40
    assert worst < 1e-4


@pytest.mark.parametrize("action", [0, 1, 2, 3])
def test_one_engine_pushes_as_gymnasiums(action, step):
    lander, _, force = box2d(3)
    rigid, leg_joints = step(bodies.start(), (joints.start(), joints.start()), 0, force)
    expected = lander.step(action)[0]
    rigid, _ = step(rigid, leg_joints, action, jnp.zeros(2))
    np.testing.assert_allclose(observe(rigid), expected[:6], atol=1e-6)


def test_a_kept_state_steps_to_the_same_bits_again(step):
    rigid, leg_joints = step(
        bodies.start(), (joints.start(), joints.start()), 0, jnp.array([400.0, -300.0])
    )
    once, again = (step(rigid, leg_joints, 2, jnp.zeros(2)) for _ in range(2))
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
