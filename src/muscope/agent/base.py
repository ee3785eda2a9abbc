"""What acting, planning and every experiment need of an agent, whatever it is made of."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Latent = Any
"""A latent state z: any pytree of arrays."""


class Prediction(NamedTuple):
    """f(z): the policy prior's logits and the value."""

    policy_logits: Float[Array, "A"]
    value: Float[Array, ""]


class Foretold(NamedTuple):
    """A latent state that carries what f says of it, for agents that compute both at once."""

    z: Any
    """The latent state itself."""
    policy_logits: Any
    """[A], float32."""
    value: Any
    """A scalar, float32."""


def flat(z: Latent) -> Float[Array, "D"]:
    """All numbers of one latent state, without what f says of it."""
    numbers = jax.tree.leaves(z.z if isinstance(z, Foretold) else z)
    return jnp.concatenate([jnp.ravel(x).astype(jnp.float32) for x in numbers])


@runtime_checkable
class Agent(Protocol):
    """The h, g and f of Section 2.2 with scalar rewards and values; must be a pytree.

    :class:`muscope.agent.networks.MuZero` is one; :class:`muscope.agent.true_model.TrueModel`
    is another, which knows the environment itself.
    """

    def represent(self, observation: Float[Array, "..."]) -> Latent:
        """z_t^0 = h(s_t)."""
        ...

    def step(self, z: Latent, action: Int[Array, ""]) -> tuple[Latent, Float[Array, ""]]:
        """(z_t^{k+1}, u_t^k) = g(z_t^k, a_{t+k})."""
        ...

    def predict(self, z: Latent) -> Prediction:
        """pi_t^k, v_t^k = f(z_t^k)."""
        ...
