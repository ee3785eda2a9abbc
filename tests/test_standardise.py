"""Standardised observations: measured in random play, used by the network, never trained."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from muscope import presets
from muscope.agent import networks, standardise
from muscope.agent.standardise import FLOOR, LIMIT, Standardise
from muscope.envs import Spec, Transition
from muscope.envs.episode import observed_in_random_play
from muscope.training.agent import AgentProgram


class Clock:
    """Shows its time, whether the last action was 2, and a constant; ends after ten steps."""

    spec = Spec("clock", 4, (3,), 1_000)

    def reset(self, key):
        return jnp.zeros(2)

    def step(self, state, action):
        over = state[0] >= 9
        moved = jnp.stack([state[0] + 1, (action == 2).astype(jnp.float32)])
        return Transition(moved, jnp.zeros(()), over)

    def observe(self, state):
        return jnp.concatenate([state, jnp.full(1, 0.3)])


def test_mean_and_spread_of_random_play_are_those_of_a_known_process():
    mean, spread = observed_in_random_play(Clock(), jax.random.key(0), lanes=50, states=4_000)
    # Every lane shows 0..9 eight times; the flag is 0 at the start and then true in a quarter.
    np.testing.assert_allclose(mean[0], 4.5, rtol=1e-6)
    np.testing.assert_allclose(spread[0], np.sqrt(99 / 12), rtol=1e-5)
    share = 0.9 * 0.25
    np.testing.assert_allclose(mean[1], share, atol=0.03)  # 4 standard errors
    np.testing.assert_allclose(spread[1], np.sqrt(share * (1 - share)), atol=0.03)
    np.testing.assert_allclose([mean[2], spread[2]], [0.3, 0.0], atol=1e-3)


def test_a_faint_component_comes_out_as_large_as_the_others():
    view = standardise.measured(
        Standardise((3,)), jnp.array([0.5, 0.01, 0.3]), jnp.array([0.25, 0.05, 0.0])
    )
    out = view(jnp.array([0.75, 0.06, 0.3 + FLOOR]))
    np.testing.assert_allclose(out, [1, 1, 1], rtol=1e-5)
    np.testing.assert_array_equal(view(jnp.array([-99.0, 99.0, 0.3])), [-LIMIT, LIMIT, 0])


def with_a_view(config, spec, key):
    """The usual network behind a :class:`Standardise`."""

    class Seen(eqx.Module):
        view: Standardise
        inner: eqx.Module

        def __call__(self, observation):
            return self.inner(self.view(observation))

    agent = networks.build(dataclasses.replace(config, kind="mlp"), spec, key)
    seen = Seen(Standardise(spec.observation_shape), agent.representation)
    return dataclasses.replace(agent, representation=seen)


def test_training_measures_before_it_starts_and_leaves_it_alone(tiny, monkeypatch):
    monkeypatch.setitem(networks._KINDS, "seen", networks._Kind(with_a_view))
    # Weight decay, and a moving average, would both change what they are let near.
    config = dataclasses.replace(
        tiny,
        network=dataclasses.replace(tiny.network, kind="seen"),
        optimiser=dataclasses.replace(tiny.optimiser, weight_decay=0.5),
    )
    program = AgentProgram(config)
    begin = jax.jit(program.initial)(jax.random.key(3))
    view = begin.agent.representation.view
    assert float(jnp.abs(view.mean).min()) > 0
    assert np.all((np.asarray(view.spread) > 0.005) & (np.asarray(view.spread) < 1))

    rounds = program.warmup_rounds + 10
    state, metrics = jax.jit(program.run, static_argnums=2)(begin, jnp.int32(0), rounds)
    assert float(jnp.sum(metrics.updates)) > 0
    for agent in (state.agent, state.average):
        for after, before in zip(
            jax.tree.leaves(agent.representation.view), jax.tree.leaves(view), strict=True
        ):
            np.testing.assert_array_equal(after, before)
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()),
        state.average.representation.inner,
        begin.average.representation.inner,
    )
    assert all(change > 0 for change in jax.tree.leaves(moved))


def test_breakouts_network_has_one_unless_told_not_to():
    config = presets.preset("breakout").network
    spec = Spec("probe", 2, (48, 48, 4), 10)
    assert standardise.present(networks.build(config, spec, jax.random.key(0)))
    without = dataclasses.replace(config, standardise=False)
    assert not standardise.present(networks.build(without, spec, jax.random.key(0)))
