"""From visit counts to actions: Equation 1 and its temperature schedule."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from muscope.config.train import TEMPERATURES


def temperature_at(
    step: Int[Array, ""] | int, steps: int, temperatures: tuple[float, float, float] = TEMPERATURES
) -> Float[Array, ""]:
    """T at training step ``step`` of ``steps``."""
    progress = jnp.asarray(step) / steps
    stage = (progress >= 0.5).astype(jnp.int32) + (progress >= 0.75).astype(jnp.int32)
    return jnp.asarray(temperatures)[stage]


def behaviour_logits(
    visits: Float[Array, "*lanes A"], temperature: Float[Array, "..."] | float
) -> Float[Array, "*lanes A"]:
    """Log N(z, a) / T, the logits of pi_MuZero(a | s_t) of Equation 1; minus infinity at unvisited
    actions.

    Args:
        visits: N(z_t^0, a), at least one of them positive in each lane.
        temperature: T > 0, one for all or [*lanes, 1].

    """
    return jnp.log(visits) / temperature


def sample_action(
    key: Key[Array, ""], visits: Float[Array, "*lanes A"], temperature: Float[Array, "..."] | float
) -> Int[Array, "*lanes"]:
    """One action per lane from Equation 1; ``key`` is consumed."""
    return jax.random.categorical(key, behaviour_logits(visits, temperature))
