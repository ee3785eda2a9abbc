"""Many lanes at once: a state steps to the same bits whatever is stepped beside it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope.envs.lunar_lander import bodies, snapshot, world
from muscope.envs.lunar_lander.environment import LunarLander
from muscope.envs.lunar_lander.snapshot import FLYING, NEAR, OVER

ENVIRONMENT = LunarLander()
LANES, STEPS = 96, 110
STATES = 128  # at once, so that the tests share what is compiled
SETTLE = jax.jit(jax.vmap(world.settle))
MAY_HIT = jax.jit(jax.vmap(world.may_hit))


@jax.jit
@jax.vmap
def impacts(settled, before):
    """The world after its bodies' times of impact, whether any is expected or not."""
    of_each = jax.vmap(world.impact, in_axes=(0, 0, 0, None))
    given = (world.met(settled), bodies.each(before), jnp.arange(3), settled.heights)
    return world.landed(settled, of_each(*given))


def unpack(worlds):
    return jax.vmap(snapshot.unpack)(jnp.asarray(worlds))


@functools.cache
def step_lanes():
    return jax.jit(jax.vmap(ENVIRONMENT.step))


@pytest.fixture(scope="module")
def pool():
    """States of random play with their actions and what follows, from all phases."""
    keys = jax.random.split(jax.random.key(0), LANES)
    state = jax.jit(jax.vmap(ENVIRONMENT.reset))(keys)
    rng, kept = np.random.default_rng(0), []
    for now in range(STEPS):
        action = jnp.asarray(rng.integers(4, size=LANES), jnp.int32)
        moved = step_lanes()(state, action)
        if now % 10 == 9:
            kept.append((state, action, moved))
        state = moved.state
    pool = jax.tree.map(lambda *x: np.concatenate(x), *jax.device_get(kept))
    assert {FLYING, NEAR, OVER} == set(pool[0].phase.tolist())
    return pool


def take(pool, index):
    return jax.tree.map(lambda x: x[index], pool)


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("lanes", [7, 300])
def test_the_same_bits_in_any_batch(pool, lanes):
    rng = np.random.default_rng(lanes)
    index = rng.permutation(len(pool[1]))[:lanes]
    state, action, expected = take(pool, index)
    assert_same_bits(step_lanes()(state, action), expected)


def test_the_same_bits_alone(pool):
    step = jax.jit(ENVIRONMENT.step)
    for phase in (FLYING, NEAR, OVER):
        for index in np.nonzero(pool[0].phase == phase)[0][:8]:
            state, action, expected = take(pool, index)
            assert_same_bits(step(state, action), expected)


def test_the_same_bits_nested_and_inside_other_programs(pool):
    """Two axes, twice from the kept state, in a loop, with arithmetic around."""

    @jax.jit
    def program(state, action):
        nested = jax.vmap(jax.vmap(ENVIRONMENT.step))(state, action)

        def again(carry, _):
            moved = jax.vmap(jax.vmap(ENVIRONMENT.step))(state, action)
            return carry + moved.reward, moved

        return nested, jax.lax.scan(again, nested.reward * 0.5, None, length=2)[1]

    index = np.random.default_rng(3).permutation(len(pool[1]))[:60].reshape(3, 20)
    state, action, expected = take(pool, index)
    nested, repeated = program(state, action)
    assert_same_bits(nested, expected)
    for i in range(2):
        assert_same_bits(take(repeated, i), expected)


def test_a_world_survives_packing(pool):
    for index in range(0, len(pool[1]), 50):
        values = jnp.asarray(pool[0].world[index])
        np.testing.assert_array_equal(snapshot.pack(snapshot.unpack(values)), values)


def test_a_kept_world_steps_to_the_same_bits_again(pool):
    state, action, _ = take(pool, np.nonzero(pool[0].phase != OVER)[0][-STATES:])
    kept = unpack(state.world)
    first, again = (impacts(*SETTLE(kept, action)) for _ in range(2))
    assert_same_bits(first, again)


def test_lanes_step_as_the_world_does(pool):
    """Sorted into phases, lanes do what the whole world step does."""
    chosen = np.nonzero(pool[0].phase != OVER)[0]
    near = chosen[pool[0].phase[chosen] == NEAR]
    index = np.concatenate([np.resize(part, STATES // 2) for part in (chosen, near)])
    state, action, expected = take(pool, index)
    after = impacts(*SETTLE(unpack(state.world), action))
    whole = jax.vmap(snapshot.snapshot)(after)
    np.testing.assert_allclose(whole.observation, expected.state.observation, atol=1e-3)
    off = np.abs(whole.observation - expected.state.observation).max(axis=1)
    assert np.quantile(off, 0.95) < 1e-5
    np.testing.assert_array_equal(whole.phase == OVER, expected.terminated)
    kept = [
        np.stack([t.left, *t.near, t.right_first])
        for t in (after.touches, unpack(expected.state.world).touches)
    ]
    assert (kept[0] == kept[1]).all(axis=(0, 2)).mean() > 0.98


def test_a_lane_that_flies_has_no_ground_near(pool):
    """The whole step finds nothing to touch where the phase says so."""
    flying = np.nonzero(pool[0].phase == FLYING)[0]
    worlds = unpack(pool[0].world[flying])
    ground = np.asarray(worlds.heights).max(axis=1)
    lowest = np.argsort(np.min(worlds.bodies.y, axis=0) - ground)[:STATES]
    state, action, _ = take(pool, flying[lowest])
    settled, before = SETTLE(unpack(state.world), action)
    assert not np.any([i.touching for i in settled.touches.impulses])
    # The sample comes close: there are contacts that do not touch.
    assert np.any(settled.touches.near)
    assert not np.any(MAY_HIT(settled, before))


def test_where_no_time_of_impact_is_expected_there_is_none(pool):
    state, action, _ = take(pool, np.resize(np.nonzero(pool[0].phase == NEAR)[0], STATES))
    settled, before = SETTLE(unpack(state.world), action)
    hits = np.asarray(MAY_HIT(settled, before)).any(axis=1)
    ended = impacts(settled, before)
    packed = [np.asarray(jax.vmap(snapshot.pack)(w)) for w in (settled, ended)]
    changed = np.any(packed[0] != packed[1], axis=1)
    assert changed.any()
    assert not hits.all()
    assert not np.any(changed & ~hits)
