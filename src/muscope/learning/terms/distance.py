"""The plain squared distance in latent space: |z_t^k - h(o_{t+k})|^2 for k = 1..K.

After the regularisation of de Vries et al. (2021), *Visualizing MuZero Models*.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from muscope.agent.base import Latent, flat
from muscope.config.base import Weight
from muscope.learning.terms.base import Term, TermSettings, Unrolled


@dataclass(frozen=True)
class Distance(TermSettings):
    """The squared distance of latent states from those of the observations."""

    section = "terms.distance"

    weight: Weight = 0.1
    """Weight of the term beside the policy's; 0 leaves it out, to the bit.  1 to 0.01 is usual."""
    both_ways: bool = False
    """Whether the observations' latent states are drawn to the unrolled ones too, instead of
    standing still; nothing in this term then keeps all of them from becoming one."""


def loss(settings: Distance, parameters: None, unrolled: Unrolled) -> Float[Array, ""]:
    """The sum over components, weighted over k as MuZero's own losses are."""
    assert unrolled.targets.later is not None
    there = jax.vmap(unrolled.agent.represent)(unrolled.targets.later)
    there = there if settings.both_ways else jax.lax.stop_gradient(there)

    def squared(z: Latent, of_observation: Latent) -> Float[Array, ""]:
        return jnp.sum((flat(z) - flat(of_observation)) ** 2)

    behind = jax.tree.map(lambda z: z[1:], unrolled.latents)
    return unrolled.total(jax.vmap(squared)(behind, there))


TERM = Term("distance", loss, Distance, later=True)
