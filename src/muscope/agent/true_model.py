"""The true environment dressed as a learned model: the microscope's zero mark."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from muscope.agent.base import Prediction
from muscope.envs.base import Environment, State


class TrueModel(eqx.Module):
    """An agent whose model is the environment, so that every value error must be 0.

    Useful as a check of an experiment, and of a new environment: a value error above
    rounding means that ``decode`` or the environment's determinism is broken.
    """

    environment: Environment = eqx.field(static=True)
    decode: Callable[[Float[Array, "..."]], State] = eqx.field(static=True)
    """The environment's state from an observation that shows all of it."""
    prediction: Callable[[State], Prediction] | None = eqx.field(static=True, default=None)
    """f on true states; a uniform prior and value 0 by default."""
    reward_bias: float = 0.0
    """Added to every reward; a value error of known size."""

    def represent(self, observation: Float[Array, "..."]) -> State:
        """The true state."""
        return self.decode(observation)

    def step(self, z: State, action: Int[Array, ""]) -> tuple[State, Float[Array, ""]]:
        """The true transition."""
        moved = self.environment.step(z, action)
        return moved.state, moved.reward + self.reward_bias

    def predict(self, z: State) -> Prediction:
        """``prediction``, or nothing known."""
        if self.prediction is not None:
            return self.prediction(z)
        return Prediction(jnp.zeros((self.environment.spec.num_actions,)), jnp.zeros(()))
