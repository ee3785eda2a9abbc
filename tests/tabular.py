"""A small enumerable MDP, its exact values, and a perfect MuZero of it."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from muscope.agent.networks import MuZero
from muscope.agent.support import Support
from muscope.envs.base import Spec, Transition

# Five states, two actions.  State 4 is terminal.  Action 1 from state 0 pays at once and ends
# in a poor loop; action 0 pays later.
NEXT = np.array([[1, 3], [2, 1], [2, 4], [3, 0], [4, 4]])
REWARD = np.array([[0.0, 1.0], [0.0, 0.2], [2.0, 5.0], [0.1, 0.0], [0.0, 0.0]])
TERMINAL = np.array([False, False, False, False, True])


class TabularState(NamedTuple):
    index: jax.Array


class TabularMDP:
    """The environment contract over NEXT, REWARD and TERMINAL; observations are one-hot."""

    spec = Spec("tabular", num_actions=2, observation_shape=(5,), time_limit=20)

    def reset(self, key):
        return TabularState(jax.random.randint(key, (), 0, 4))

    def step(self, state, action):
        index = jnp.asarray(NEXT)[state.index, action]
        reward = jnp.asarray(REWARD, jnp.float32)[state.index, action]
        return Transition(TabularState(index), reward, jnp.asarray(TERMINAL)[index])

    def observe(self, state):
        return jax.nn.one_hot(state.index, 5)


def optimal_q(discount: float, sweeps: int = 5000) -> np.ndarray:
    """Q* by value iteration in float64."""
    q = np.zeros(NEXT.shape)
    for _ in range(sweeps):
        q = REWARD + discount * np.where(TERMINAL[NEXT], 0.0, q.max(axis=1)[NEXT])
    return q


class _Identity(eqx.Module):
    def __call__(self, observation):
        return observation


class _TableDynamics(eqx.Module):
    """Transitions; rewards as logits of their two-hot encoding."""

    reward: jax.Array
    following: jax.Array
    support: Support = eqx.field(static=True)

    def __call__(self, z, action):
        index = jnp.argmax(z)
        probabilities = self.support.encode(self.reward[index, action])
        following = jnp.round(self.following[index, action]).astype(jnp.int32)
        return jax.nn.one_hot(following, 5), jnp.log(probabilities + 1e-30)


class _TablePrediction(eqx.Module):
    logits: jax.Array
    value: jax.Array
    support: Support = eqx.field(static=True)

    def __call__(self, z):
        index = jnp.argmax(z)
        return self.logits[index], jnp.log(self.support.encode(self.value[index]) + 1e-30)


def perfect_agent(logits=None, value=None, reward=REWARD, following=NEXT) -> MuZero:
    """A MuZero whose model is the MDP itself (unless another table is given)."""
    support = Support(10.0, 401)
    return MuZero(
        _Identity(),
        _TableDynamics(
            jnp.asarray(reward, jnp.float32), jnp.asarray(following, jnp.float32), support
        ),
        _TablePrediction(
            jnp.zeros((5, 2)) if logits is None else jnp.asarray(logits, jnp.float32),
            jnp.zeros(5) if value is None else jnp.asarray(value, jnp.float32),
            support,
        ),
        support,
        support,
    )
