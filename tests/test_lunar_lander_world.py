"""Whole episodes of our world beside Box2D's, from the same start and the same actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_lunar_lander_flight import box2d

from muscope.envs.lunar_lander import world
from muscope.envs.lunar_lander.flight import observe

pytest.importorskip("Box2D")
lander_module = pytest.importorskip("gymnasium.envs.box2d.lunar_lander")
SEEDS = (0, 1, 2, 3, 4, 6, 7, 8, 10, 11)


@pytest.fixture(scope="module")
def step():
    return jax.jit(world.step)


@pytest.fixture(scope="module")
def agreement(step):
    """Per seed, whether both end at the same step, and the worst difference on the way."""
    return {seed: episode(seed, step) for seed in SEEDS}


def episode(seed, step):
    """Policies from Gymnasium's heuristic to random play, until either world ends."""
    lander, observation, force = box2d(seed)
    heights = lander.np_random.drawn[0].copy()
    heights[3:8] = lander.helipad_y
    smooth = [0.33 * (heights[i - 1] + heights[i] + heights[i + 1]) for i in range(11)]
    ours = step(world.start(jnp.asarray(smooth, jnp.float32)), 0, jnp.asarray(force))
    rng, random_share = np.random.default_rng(seed + 1000), (0.0, 0.1, 0.3, 1.0)[seed % 4]
    worst = 0.0
    for _ in range(1000):
        action = int(lander_module.heuristic(lander, observation))
        if rng.random() < random_share:
            action = int(rng.integers(4))
        observation, _, over, _, _ = lander.step(action)
        ours = step(ours, action, jnp.zeros(2))
        found = np.array([*observe(ours.bodies), *ours.flags[1:]])
        ended = bool(ours.flags[0]) or abs(found[0]) >= 1 or not bool(ours.awake)
        worst = max(worst, np.abs(found - observation).max())
        if over or ended:
            break
    return over == ended, worst


def test_episodes_end_at_the_same_step_as_in_box2d(agreement):
    """Landings, crashes and flights out of sight: the same end, and the same way there."""
    assert sum(same for same, _ in agreement.values()) >= len(SEEDS) - 1
    assert np.median([worst for _, worst in agreement.values()]) < 1e-2


def test_a_kept_world_steps_to_the_same_bits_again(step):
    ours = world.start(jnp.full((11,), 3.3, jnp.float32))
    for action in (0, 2, 1, 3):
        kept, ours = ours, step(ours, action, jnp.zeros(2))
        again = step(kept, action, jnp.zeros(2))
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(again), strict=True):
            np.testing.assert_array_equal(a, b)
