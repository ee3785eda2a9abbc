"""What a plan counts is what is computed: environments and networks that count, and all presets."""

import collections
import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from tabular import TabularMDP, perfect_agent

import muscope
from muscope.config import EvaluateConfig, SearchConfig
from muscope.experiments import cost, registry
from muscope.experiments.lab import Lab
from muscope.work import total

COUNTS = collections.Counter()


def count(kind, *batched):
    """Add one for every lane that comes here when the program runs."""
    jax.debug.callback(lambda *_: COUNTS.update([kind]), *batched)


class CountingMDP(TabularMDP):
    """The tabular MDP without an end, so that every episode lasts to the time limit."""

    def step(self, state, action):
        count("environment", state.index, action)
        return super().step(state, action)._replace(terminated=jnp.array(False))


class CountingAgent(eqx.Module):
    inner: eqx.Module

    def represent(self, observation):
        count("encoding", observation)
        return self.inner.represent(observation)

    def step(self, z, action):
        count("model", z, action)
        return self.inner.step(z, action)

    def predict(self, z):
        return self.inner.predict(z)


SETTINGS = {
    "figure3": {"sequences": 3, "horizon": 4},
    "endings": {"sequences": 3, "horizon": 4},
    "figure4": {"horizon": 3},
    "figure5": {"sequences": 2, "horizon": 3},
    "figure6": {"simulations": 4, "horizon": 5},
    "figure7": {"simulations": [1, 3], "horizon": 5, "episodes": 2, "steps": 6},
    "decisions": {"simulations": 3, "horizon": 4, "q_horizon": 5, "sequences": 11},
}


@pytest.fixture(scope="module")
def bench():
    agent = CountingAgent(perfect_agent())
    search = SearchConfig(simulations=5)
    subject = muscope.subject({0: agent, 8: agent}, CountingMDP(), search=search, unroll=3)
    evaluate = EvaluateConfig(episodes=2, states=3)
    return subject, evaluate, Lab(subject, evaluate).block([0])


def counted(run):
    jax.effects_barrier()
    COUNTS.clear()
    run()
    jax.effects_barrier()
    return dict(COUNTS)


def test_on_policy_episodes_are_counted(bench):
    subject, evaluate, block = bench
    works = cost.on_policy(subject, evaluate)
    seen = counted(lambda: jax.block_until_ready(block.on_policy(8)))
    assert total(works, "search") == 2 * 20
    assert {kind: total(works, kind) for kind in seen} == seen
    assert set(seen) == {"environment", "encoding", "model"}


@pytest.mark.parametrize("name", ["figure2", *SETTINGS])
def test_an_experiments_work_is_what_it_does(bench, name):
    subject, evaluate, block = bench
    experiment = registry.get(name)
    given = dict(SETTINGS.get(name, {}))
    settings = dataclasses.replace(
        experiment.settings(),
        **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()},
    )
    block.on_policy(8)  # Shared; its work is not the experiment's own.
    seen = counted(lambda: experiment.run(block, settings, 8))
    works = experiment.work(subject, evaluate, settings)
    if name == "figure7":  # It asks twice for the same encoding in places, which XLA does once.
        assert seen.pop("encoding") >= total(works, "encoding") > 0
    assert {kind: total(works, kind) for kind in seen} == seen
