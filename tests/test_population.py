"""Agents in a population are independent of each other and of how they are laid out."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope.runtime import filled_up
from muscope.search import learned_parts, search
from muscope.training.population import Population


def resized(config, agents):
    return dataclasses.replace(config, train=dataclasses.replace(config.train, agents=agents))


def run(population, state, calls):
    rounds = 0
    for _ in range(calls):
        state, metrics = population.advance(state, rounds)
        rounds += population.config.train.call_rounds
    return state, metrics, rounds


def assert_close(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), **tolerance)


@pytest.fixture
def eight(tiny):
    return Population(resized(tiny, 8))


def test_an_agent_alone_starts_identically_and_stays_equal(tiny, eight):
    """Agent 5 of 8 against the same agent alone, through warm-up and updates."""
    alone = Population(resized(tiny, 1))
    together = eight.initial()
    single = alone.place(jax.tree.map(lambda x: x[5:6], together))
    fresh = jax.jit(eight.program.initial)(eight.agent_keys()[5])
    assert_close(fresh, jax.tree.map(lambda x: x[5], together), rtol=0, atol=0)
    together, _, rounds = run(eight, together, 3)
    single, _, _ = run(alone, single, 3)
    assert eight.training_step(rounds) > 0
    a, b = (jax.device_get(x) for x in (together, single))
    sixth = jax.tree.map(lambda x: x[5:6], a)
    np.testing.assert_array_equal(sixth.replay.rows.action, b.replay.rows.action)
    assert_close(sixth.agent, b.agent, rtol=1e-3, atol=1e-4)


def test_agents_differ_and_learn_from_their_own_data(eight):
    state, _, _ = run(eight, eight.initial(), 3)
    weights = np.asarray(state.agent.representation.first.weight).reshape(8, -1)
    assert len(np.unique(weights[:, 0])) == 8
    observations = np.asarray(state.replay.rows.observation).reshape(8, -1)
    assert len(np.unique(observations[:, 4])) == 8


def test_cold_lanes_act_nearly_greedily_and_the_others_explore(tiny):
    """At temperatures of 1 and, for the cold lane, almost 0; random visits differ."""
    train = dataclasses.replace(
        tiny.train,
        agents=1,
        cold_lanes=1,
        temperatures=(1.0, 1.0, 1e-5),
        reanalyse_ratio=0.0,
    )
    search = dataclasses.replace(tiny.search, simulations=5)
    population = Population(dataclasses.replace(tiny, train=train, search=search))
    state, _, rounds = run(population, population.initial(), 8)
    rows = jax.device_get(state.replay.rows)
    action, policy = rows.action[0, :rounds], rows.policy[0, :rounds]
    taken = np.take_along_axis(policy, action[..., None], axis=-1)[..., 0]
    greedy = taken >= policy.max(axis=-1) - 1e-6
    assert greedy[:, 0].all()
    assert not greedy[:, 1].all()


def test_two_devices_give_what_one_gives(eight):
    assert len(jax.local_devices()) == 2
    assert eight.mesh.size == 2
    single = Population(eight.config, jax.local_devices()[:1])
    split, split_metrics, _ = run(eight, eight.initial(), 3)
    assert len(split.key.sharding.device_set) == 2
    whole, whole_metrics, _ = run(single, single.initial(), 3)
    a, b = jax.device_get(split), jax.device_get(whole)
    np.testing.assert_array_equal(a.replay.rows.action, b.replay.rows.action)
    assert_close(a.agent, b.agent, rtol=1e-3, atol=1e-4)
    assert_close(split_metrics, whole_metrics, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("agents", "devices", "filled", "used"),
    [(1, 8, 1, 1), (3, 2, 4, 2), (5, 4, 6, 3), (9, 8, 10, 5), (11, 2, 12, 2), (30, 8, 32, 8)],
)
def test_each_device_has_equally_many_agents_and_no_more_than_it_must(
    agents, devices, filled, used
):
    assert filled_up(agents, jax.local_devices()[:1] * devices) == filled
    assert max(n for n in range(1, devices + 1) if filled % n == 0) == used
    assert filled // used == -(-agents // devices)  # as many as the busiest must have


def test_three_agents_on_two_devices_give_what_three_on_one_give(tiny):
    """What fills up the second device is neither seen in what is told nor of influence."""
    config = resized(tiny, 3)
    two, one = Population(config), Population(config, jax.local_devices()[:1])
    assert (two.size, two.mesh.size, one.size) == (4, 2, 3)
    split, split_metrics, _ = run(two, two.initial(), 3)
    whole, whole_metrics, _ = run(one, one.initial(), 3)
    a, b = jax.device_get((two.own(split), whole))
    np.testing.assert_array_equal(a.replay.rows.action, b.replay.rows.action)
    assert_close(a.agent, b.agent, rtol=1e-3, atol=1e-4)
    assert_close(split_metrics, whole_metrics, rtol=1e-3, atol=1e-4)
    assert two.health(split).parameters.shape == (3,)
    assert two.replay_bytes() == sum(x.nbytes for x in jax.tree.leaves(split.replay))


def test_running_twice_gives_identical_bits(tiny):
    population = Population(tiny)
    a, _, _ = run(population, population.initial(), 3)
    a = jax.device_get(a)
    b, _, _ = run(population, population.initial(), 3)
    assert_close(a, jax.device_get(b), rtol=0, atol=0)


def test_no_round_and_no_update_copies_the_ring(tiny):
    """A ring that is read and written in one turn of a loop must be read first."""
    rows, lanes = 5000, tiny.train.lanes
    config = dataclasses.replace(
        tiny, replay=dataclasses.replace(tiny.replay, capacity=rows * lanes)
    )
    population = Population(resized(config, 2), jax.local_devices()[:1])
    form = jax.eval_shape(population.initial)
    program = population._advance.lower(form, jax.ShapeDtypeStruct((), jnp.int32)).compile()
    ring = rf"\[2,({rows},{lanes}|{rows * lanes})\b[^ ]*"
    assert re.search(rf"{ring} scatter\(", program.as_text())  # it is written under this shape
    assert not re.findall(rf"{ring} copy\(", program.as_text())


def test_nothing_is_learned_before_the_replay_is_warm(tiny):
    population = Population(tiny)
    start = jax.device_get(population.initial())
    state, metrics = population.advance(population.initial(), 0)
    assert population.training_step(population.config.train.call_rounds) == 0
    assert float(jnp.sum(metrics.updates)) == 0
    assert_close(start.agent, jax.device_get(state.agent), rtol=0, atol=0)
    written = int(state.replay.written[0])
    assert written == population.config.train.call_rounds


def test_the_average_moves_by_its_rate(tiny):
    """With one update per round, average' = average + rate (parameters' - average)."""
    config = dataclasses.replace(
        tiny,
        optimiser=dataclasses.replace(tiny.optimiser, average_rate=0.25, warmup=0),
        train=dataclasses.replace(tiny.train, updates_per_round=1, rounds_per_call=1),
    )
    population = Population(config)
    rounds = 0
    state = population.initial()
    while population.training_step(rounds) < 3:
        before = jax.device_get(state.average)
        state, _ = population.advance(state, rounds)
        rounds += 1
    expected = jax.tree.map(
        lambda old, new: old + 0.25 * (np.asarray(new) - old), before, state.agent
    )
    assert_close(expected, jax.device_get(state.average), rtol=1e-5, atol=1e-6)
    with pytest.raises(AssertionError):
        assert_close(state.agent, state.average, rtol=1e-5, atol=1e-6)


def test_reanalysed_targets_equal_a_fresh_search_with_the_current_network(tiny):
    """Noise and random ties off: every refreshed row holds what searching it now gives."""
    config = dataclasses.replace(
        tiny,
        search=dataclasses.replace(tiny.search, dirichlet_fraction=0.0, tie_noise=0.0),
        train=dataclasses.replace(tiny.train, reanalyse_ratio=8.0, rounds_per_call=1, agents=1),
    )
    population = Population(config)
    state, rounds = population.initial(), 0
    while population.training_step(rounds) < 8:
        state, _ = population.advance(state, rounds)
        rounds += 1
    first = jax.tree.map(lambda x: x[0], jax.device_get(state))
    before = first.replay.rows
    # The next round searches with the average as it stands now.
    observations = before.observation[:rounds].reshape(-1, 4)
    fresh = search(
        learned_parts(first.average),
        jax.vmap(first.average.represent)(observations),
        jax.random.key(0),
        config.search,
        config.environment.discount,
    )
    state, _ = population.advance(state, rounds)
    after = jax.tree.map(lambda x: x[0], jax.device_get(state)).replay.rows
    value = after.value[:rounds].reshape(-1)
    changed = np.abs(value - before.value[:rounds].reshape(-1)) > 1e-6
    assert changed.sum() >= 8
    np.testing.assert_allclose(value[changed], np.asarray(fresh.value)[changed], rtol=1e-3)
    policy = after.policy[:rounds].reshape(-1, 2)
    expected = np.asarray(fresh.visits) / config.search.simulations
    np.testing.assert_array_equal(policy[changed], expected[changed])
    for name in ("observation", "action", "reward", "terminated", "last"):
        old, new = getattr(before, name)[:rounds], getattr(after, name)[:rounds]
        np.testing.assert_array_equal(old, new)


def test_without_reanalyse_old_targets_stay(tiny):
    config = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, reanalyse_ratio=0.0))
    population = Population(config)
    state, _, rounds = run(population, population.initial(), 3)
    before = np.asarray(state.replay.rows.value)[:, :rounds]
    state, _ = population.advance(state, rounds)
    np.testing.assert_array_equal(before, np.asarray(state.replay.rows.value)[:, :rounds])
