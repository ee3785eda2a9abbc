"""The contract's check: one environment per broken rule, and those that keep them all."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from host_models import CounterEnvironment, host_cart_pole
from tabular import TabularMDP
from worlds import Line, LineState

from muscope.config.environment import HostConfig
from muscope.envs import LunarLander, Spec
from muscope.envs.base import Transition
from muscope.envs.contract import check
from muscope.errors import ConfigError


class Probe(Line):
    """The line with a spec that may be changed."""

    def __init__(self, **changes):
        super().__init__()
        self.spec = self.spec._replace(**changes)


class NoObserve:
    spec = Spec("blind", 2, (1,), 10)

    def reset(self, key):
        return jnp.zeros(1)

    def step(self, state, action):
        return Transition(state, 0.0, False)


class DictObservation(Line):
    def observe(self, state):
        return {"place": super().observe(state)}


class WrongShape(Line):
    def observe(self, state):
        return jnp.zeros(3)


class IntegerObservation(Line):
    def observe(self, state):
        return jnp.stack([state.place, self.length])


class PythonBranch(Line):
    def step(self, state, action):
        return super().step(state, 0 if state.terminated else action)


class BadReset(Line):
    def reset(self, key):
        return LineState(int(jax.random.randint(key, (), 0, 2)), jnp.array(False))


class PlainTuple(Line):
    def step(self, state, action):
        return tuple(super().step(state, action))


class OtherType(Line):
    def step(self, state, action):
        moved = super().step(state, action)
        return moved._replace(
            state=LineState(moved.state.place.astype(jnp.float32), moved.terminated)
        )


class OtherStructure(Line):
    def step(self, state, action):
        moved = super().step(state, action)
        return moved._replace(state=tuple(moved.state))


class RewardVector(Line):
    def step(self, state, action):
        return super().step(state, action)._replace(reward=jnp.zeros(2))


class IntegerEnd(Line):
    def step(self, state, action):
        return super().step(state, action)._replace(terminated=jnp.zeros(()))


class NoState(Line):
    def reset(self, key):
        return ()


class Endless(Line):
    def observe(self, state):
        return super().observe(state) / (4.0 - state.place)


class InfiniteReward(Line):
    def step(self, state, action):
        moved = super().step(state, action)
        return moved._replace(reward=jnp.where(moved.terminated, jnp.nan, moved.reward))


class PaysOn(Line):
    def step(self, state, action):
        moved = super().step(state, action)
        return moved._replace(reward=moved.terminated.astype(jnp.float32))


class WalksOn(Line):
    def step(self, state, action):
        place = state.place + action
        over = place >= self.length
        return Transition(
            LineState(place, over), jnp.where(over & ~state.terminated, 1.0, 0.0), over
        )


class Revives(Line):
    def step(self, state, action):
        moved = super().step(state, action)
        place = jnp.where(state.terminated, 0, moved.state.place)
        over = moved.terminated & ~state.terminated
        return Transition(LineState(place, over), moved.reward, over)


class HostRandom(Line):
    """Draws while it runs."""

    def step(self, state, action):
        moved = super().step(state, action)
        shape = jax.ShapeDtypeStruct((), np.float32)
        draw = jax.pure_callback(
            lambda x: np.float32(random.random()) + 0 * x,
            shape,
            state.place,
            vmap_method="sequential",
        )
        return moved._replace(reward=jnp.where(moved.terminated, moved.reward, draw))


class TraceRandom(Line):
    """Draws while it is traced."""

    def step(self, state, action):
        moved = super().step(state, action)
        return moved._replace(
            reward=jnp.where(moved.terminated, moved.reward, float(np.random.random()))
        )


class ResetRandom(Line):
    def reset(self, key):
        return LineState(jnp.int32(-random.randrange(2**30)), jnp.array(False))


PROBES = [
    (Probe(num_actions=0), "spec.num_actions is 0; it must be at least 1"),
    (Probe(time_limit=0), "spec.time_limit is 0; it must be at least 1"),
    (Probe(observation_shape=[2]), "spec.observation_shape is .*tuple of sizes"),
    (Probe(observation_shape=(2.0,)), "spec.observation_shape is"),
    (NoObserve(), "it has no observe"),
    (DictObservation(), "observe gives a dict; it must be one array"),
    (WrongShape(), r"observe gives float32 of shape \(3,\); by spec.*shape \(2,\)"),
    (IntegerObservation(), "observe gives int32 .*must be floats"),
    (PythonBranch(), r"step cannot be traced by JAX: .* jnp.where.*TracerBool.*_contract.py:\d+"),
    (BadReset(), r"reset cannot be traced by JAX: .* leave out float.*: ConcretizationTypeError"),
    (PlainTuple(), "step gives a tuple; return a muscope.envs.Transition"),
    (OtherType(), "step makes state.place float32 .*; reset gives int32"),
    (OtherStructure(), "another structure than reset"),
    (RewardVector(), r"reward is float32 of shape \(2,\); it must be one float"),
    (IntegerEnd(), "terminated is float32 .*; it must be one bool"),
    (NoState(), "reset gives a state without arrays"),
    (Endless(), "observe is not finite after"),
    (InfiniteReward(), "step's reward is not finite after"),
    (PaysOn(), "terminated state that is stepped gives a reward that is not 0"),
    (WalksOn(), "terminated state that is stepped changes"),
    (Revives(), "terminated state that is stepped becomes alive again"),
    (HostRandom(), "gave other rewards the second time"),
    (TraceRandom(), "gave other rewards the second time"),
    (ResetRandom(), "reset gives another state for the same key"),
]


@pytest.mark.parametrize(
    ("environment", "message"), PROBES, ids=lambda x: "" if isinstance(x, str) else type(x).__name__
)
def test_each_broken_rule_gets_its_own_line(environment, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check(environment)
    assert str(caught.value).startswith("environment '")
    assert "\n" not in str(caught.value)


class Far(Line):
    """Its end is so far that random steps seldom reach it; there it breaks the rule."""

    def __init__(self, length, limit=400, breaks=True):
        super().__init__()
        self.length, self.breaks = length, breaks
        self.spec = self.spec._replace(time_limit=limit)

    def step(self, state, action):
        moved = super().step(state, action)
        place = jnp.where(action == 0, jnp.maximum(moved.state.place - 1, 0), moved.state.place)
        over = place >= self.length
        if not self.breaks:
            place = jnp.where(state.terminated, state.place, place)
            over |= state.terminated
        return Transition(LineState(place, over), jnp.where(over, 0.0, 1.0), over)


@pytest.mark.parametrize("length", [70, 96, 127, 200])
def test_an_end_that_random_play_seldom_meets_is_tried_too(length):
    with pytest.raises(ConfigError, match="terminated state that is stepped"):
        check(Far(length))


def test_an_end_that_keeps_the_rule_is_passed_in_silence(capsys):
    check(Far(96, breaks=False))
    assert capsys.readouterr().err == ""


def test_where_no_end_was_met_one_line_says_so(capsys):
    check(Far(200, limit=90))
    (line,) = capsys.readouterr().err.splitlines()
    assert "none of 96 games of 96 steps ended, so the rule that an end is absorbing" in line


@pytest.mark.parametrize("environment", [Line(), TabularMDP(), host_cart_pole(HostConfig(1))])
def test_environments_that_keep_the_rules_pass(environment):
    check(environment)


def test_a_training_view_is_tried_too(tmp_path):
    counter = CounterEnvironment(tmp_path, HostConfig(1))
    check(counter)
    counter.as_training = lambda time_limit: Probe(time_limit=0)
    with pytest.raises(ConfigError, match=r"spec.time_limit is 0"):
        check(counter)


def test_muscopes_own_are_trusted_and_those_made_from_them_are_not(monkeypatch):
    def untouched(self, key):
        raise AssertionError

    monkeypatch.setattr(LunarLander, "reset", untouched)
    check(LunarLander())

    class Mine(LunarLander):
        pass

    with pytest.raises(ConfigError, match="reset cannot be traced"):
        check(Mine())
