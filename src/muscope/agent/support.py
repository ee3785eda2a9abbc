"""Scalars as categorical distributions, after the h-transform.

Sources: Pohlen et al. (2018), *Observe and Look Further*, for h; Schrittwieser et al.
(2020), Appendix F, for the two-hot projection on equally spaced bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

EPSILON = 1e-3


def h_transform(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x.  The epsilon term stands outside the sign."""
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) + EPSILON * x


def h_transform_inverse(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """The exact inverse of :func:`h_transform`.

    With s = sqrt(|x| + 1), |y| = s - 1 + eps (s^2 - 1) is a quadratic in s.  Its root is
    taken in the form without cancellation; the textbook form loses four digits in float32.
    """
    c = jnp.abs(y) + 1.0 + EPSILON
    s = 2.0 * c / (1.0 + jnp.sqrt(1.0 + 4.0 * EPSILON * c))
    return jnp.sign(y) * (s * s - 1.0)


@dataclass(frozen=True)
class Support:
    """``bins`` equally spaced points on [-limit, limit] in h-transformed units."""

    limit: float
    bins: int

    @property
    def spacing(self) -> float:
        return 2.0 * self.limit / (self.bins - 1)

    def encode(self, x: Float[Array, "..."]) -> Float[Array, "... bins"]:
        """The two-hot distribution whose transformed mean is h(x), clipped to the support."""
        y = jnp.clip(h_transform(x), -self.limit, self.limit)
        position = (y[..., None] + self.limit) / self.spacing
        return jax.nn.relu(1.0 - jnp.abs(position - jnp.arange(self.bins)))

    def decode(self, logits: Float[Array, "... bins"]) -> Float[Array, "..."]:
        """h^-1 of the mean of softmax(logits)."""
        points = (jnp.arange(self.bins) - (self.bins - 1) / 2) * self.spacing
        return h_transform_inverse(jax.nn.softmax(logits) @ points)
