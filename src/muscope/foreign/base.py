"""What all readers make: an agent that knows whose it is and what it takes."""

from __future__ import annotations

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from muscope.agent.networks import MuZero
from muscope.agent.support import Support
from muscope.envs.base import Spec
from muscope.errors import ConfigError
from muscope.foreign.layers import Chain


class ForeignAgent(MuZero):
    """An agent that another package trained; its leaves are arrays only."""

    package: str = eqx.field(static=True)
    inputs: int = eqx.field(static=True)
    """Numbers in an observation; 0 for a network of images of any size."""
    num_actions: int = eqx.field(static=True)

    def check(self, spec: Spec | None) -> ForeignAgent:
        """Itself, if it fits an environment.

        Raises:
            ConfigError: its observations or actions are others.

        """
        if spec is None:
            return self
        size = math.prod(spec.observation_shape)
        if self.inputs not in (0, size):
            raise ConfigError(
                f"this agent of {self.package} takes observations of {self.inputs} numbers, "
                f"{spec.name} gives {size}; wrap it if the agent wants a history (WithHistory)."
            )
        if self.num_actions != spec.num_actions:
            raise ConfigError(
                f"this agent of {self.package} has {self.num_actions} actions, "
                f"{spec.name} has {spec.num_actions}."
            )
        return self


Scaling = Callable[[Float[Array, "..."]], Float[Array, "..."]]
"""Brings a latent state into [0, 1]."""


class Representation(eqx.Module):
    """h of a flat observation."""

    layers: Chain
    scaled: Scaling = eqx.field(static=True)

    def __call__(self, observation: Float[Array, "..."]) -> Float[Array, "D"]:
        return self.scaled(self.layers(observation.reshape(-1)))


class Dynamics(eqx.Module):
    """g with the action as a one-hot; the reward's head reads the latent before it is scaled."""

    state: Chain
    reward: Chain
    num_actions: int = eqx.field(static=True)
    scaled: Scaling = eqx.field(static=True)

    def __call__(
        self, z: Float[Array, "D"], action: Int[Array, ""]
    ) -> tuple[Float[Array, "D"], Float[Array, "bins"]]:
        one_hot = jax.nn.one_hot(action, self.num_actions)
        following = self.state(jnp.concatenate([z, one_hot]))
        return self.scaled(following), self.reward(following)


class Predictor(eqx.Module):
    """f with separate layers for policy and value."""

    policy: Chain
    value: Chain

    def __call__(self, z: Float[Array, "D"]) -> tuple[Float[Array, "A"], Float[Array, "bins"]]:
        return self.policy(z), self.value(z)


def whole_bins(count: int) -> Support:
    """Bins at the whole numbers from -n to n, after the h-transform."""
    return Support((count - 1) / 2, count)
