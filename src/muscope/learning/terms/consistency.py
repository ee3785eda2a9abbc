"""Temporal consistency as in EfficientZero (Ye et al. 2021, Section 4.1 and Appendix A.1).

Minus the cosine of q(p(z_t^k)) and p(h(o_{t+k})) for k = 1..K, with a projector p and a predictor
q, and no gradient through the observation's side: SimSiam's loss (Chen and He 2021), where the
predictor and the stopped gradient keep latent states from becoming one.  h is the one that is
trained.  Layer normalisation stands in for batch normalisation, as in our networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from muscope.agent.base import Latent, flat
from muscope.agent.networks import Linear, MuZero
from muscope.agent.pixels import Norm
from muscope.config.base import UnitsOrNone, Weight
from muscope.envs.base import Spec
from muscope.learning.terms.base import Term, TermSettings, Unrolled, form_of_latent

OF_IMAGES, OF_VECTORS = 1024, 64
"""Units of the projector; EfficientZero, which sees images, has 1,024 and 512."""
TINY = 1e-5
"""Least length divided by."""


@dataclass(frozen=True)
class Consistency(TermSettings):
    """Unrolled latent states agree with those of the later observations (EfficientZero)."""

    section = "terms.consistency"

    weight: Weight = 2.0
    """Weight of the term beside the policy's; 0 leaves it out, to the bit.  EfficientZero's is
    2."""
    projector: UnitsOrNone = 0
    """Units of each of the projector's three layers; 0 for 1024 if observations are images, 64
    otherwise."""
    predictor: UnitsOrNone = 0
    """Units of the predictor's hidden layer; 0 for half the projector's."""


class Projector(eqx.Module):
    """p: three layers with normalisation."""

    layers: tuple[Linear, Linear, Linear]
    norms: tuple[Norm, Norm, Norm]

    def __init__(self, inputs: int, units: int, key: Key[Array, ""]):
        k1, k2, k3 = jax.random.split(key, 3)
        self.layers = (
            Linear(inputs, units, k1),
            Linear(units, units, k2),
            Linear(units, units, k3),
        )
        self.norms = (Norm(units), Norm(units), Norm(units))

    def __call__(self, z: Latent) -> Float[Array, "units"]:
        x = flat(z)
        for layer, norm in zip(self.layers[:2], self.norms[:2], strict=True):
            x = jax.nn.relu(norm(layer(x)))
        return self.norms[2](self.layers[2](x))


class Predictor(eqx.Module):
    """q: one hidden layer with normalisation."""

    hidden: Linear
    norm: Norm
    out: Linear

    def __init__(self, units: int, hidden: int, key: Key[Array, ""]):
        k1, k2 = jax.random.split(key)
        self.hidden = Linear(units, hidden, k1)
        self.norm = Norm(hidden)
        self.out = Linear(hidden, units, k2)

    def __call__(self, x: Float[Array, "units"]) -> Float[Array, "units"]:
        return self.out(jax.nn.relu(self.norm(self.hidden(x))))


class Networks(eqx.Module):
    """The term's own parameters."""

    project: Projector
    predict: Predictor


def initial(settings: Consistency, agent: MuZero, spec: Spec, key: Key[Array, ""]) -> Networks:
    """An untrained projector and predictor for an agent's latent states."""
    k1, k2 = jax.random.split(key)
    inputs = sum(x.size for x in jax.tree.leaves(form_of_latent(agent, spec)))
    usual = OF_IMAGES if len(spec.observation_shape) == 3 else OF_VECTORS
    units = settings.projector or usual
    hidden = settings.predictor or max(units // 2, 1)
    return Networks(Projector(inputs, units, k1), Predictor(units, hidden, k2))


def cosine(x: Float[Array, "units"], y: Float[Array, "units"]) -> Float[Array, ""]:
    """The product x y / (|x| |y|); 0 if one of them is 0."""

    def direction(x: Float[Array, "units"]) -> Float[Array, "units"]:
        return x * jax.lax.rsqrt(jnp.sum(x * x) + TINY**2)

    return jnp.sum(direction(x) * direction(y))


def loss(settings: Consistency, networks: Networks, unrolled: Unrolled) -> Float[Array, ""]:
    """The sum over k = 1..K, weighted as MuZero's own losses are; it lies between -1 and 1 times
    ``loss.unroll_weight``.
    """
    assert unrolled.targets.later is not None
    there = jax.vmap(unrolled.agent.represent)(unrolled.targets.later)
    wanted = jax.lax.stop_gradient(jax.vmap(networks.project)(there))
    behind = jax.tree.map(lambda z: z[1:], unrolled.latents)
    foretold = jax.vmap(lambda z: networks.predict(networks.project(z)))(behind)
    return -unrolled.total(jax.vmap(cosine)(foretold, wanted))


TERM = Term("consistency", loss, Consistency, initial, later=True)
