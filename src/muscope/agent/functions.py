"""An agent of three plain functions and their parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Int

from muscope.agent.base import Latent, Prediction


class FunctionAgent(eqx.Module):
    """JAX functions of ``(parameters, ...)`` as an :class:`muscope.agent.Agent`.

    The functions are written for one observation, one latent state, one action; several agents
    share them and differ in their parameters.
    """

    parameters: Any
    """Pytree of arrays."""
    represent_with: Callable[[Any, Float[Array, "..."]], Latent] = eqx.field(static=True)
    """(parameters, observation) -> latent state"""
    step_with: Callable[[Any, Latent, Int[Array, ""]], tuple[Latent, Float[Array, ""]]] = eqx.field(
        static=True
    )
    """(parameters, latent state, action) -> (next latent state, reward)"""
    predict_with: Callable[[Any, Latent], tuple[Float[Array, "A"], Float[Array, ""]]] = eqx.field(
        static=True
    )
    """(parameters, latent state) -> (policy logits, value)"""

    def represent(self, observation: Float[Array, "..."]) -> Latent:
        """z_t^0 = h(s_t)."""
        return self.represent_with(self.parameters, observation)

    def step(self, z: Latent, action: Int[Array, ""]) -> tuple[Latent, Float[Array, ""]]:
        """(z_t^{k+1}, u_t^k) = g(z_t^k, a_{t+k})."""
        return self.step_with(self.parameters, z, action)

    def predict(self, z: Latent) -> Prediction:
        """pi_t^k, v_t^k = f(z_t^k)."""
        return Prediction(*self.predict_with(self.parameters, z))
