"""Reconstruction: observations decoded from the root and from every unrolled latent state.

What is to be decoded of o_{t+k} is what the network sees of it (:meth:`MuZero.seen`): pixels as
they were standardised, components scaled by ``network.input_scale``; where it does neither, the
observation itself.  The loss is the mean squared error over components, so that one weight fits
vectors and images.  Precedents: de Vries et al. (2021), Scholz et al. (2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from muscope.agent.base import Latent, flat
from muscope.agent.convolution import convolve
from muscope.agent.networks import Linear, MuZero
from muscope.agent.pixels import Conv, Plane
from muscope.config.base import Units, Weight
from muscope.envs.base import Spec
from muscope.learning.terms.base import Term, TermSettings, Unrolled, form_of_latent

NARROWEST = 8
"""Channels that a decoder of images has at least."""


@dataclass(frozen=True)
class Reconstruction(TermSettings):
    """Observations are decoded from the root and from every unrolled latent state."""

    section = "terms.reconstruction"

    weight: Weight = 1.0
    """Weight of the term beside the policy's; 0 leaves it out, to the bit."""
    width: Units = 64
    """Units of the decoder's hidden layer; of a decoder of images, channels of its first
    convolution, halved with every doubling of the image."""


class VectorDecoder(eqx.Module):
    """One hidden layer."""

    hidden: Linear
    out: Linear

    def __init__(self, inputs: int, outputs: int, width: int, key: Key[Array, ""]):
        k1, k2 = jax.random.split(key)
        self.hidden = Linear(inputs, width, k1)
        self.out = Linear(width, outputs, k2)

    def __call__(self, z: Latent) -> Float[Array, "outputs"]:
        return self.out(jax.nn.relu(self.hidden(flat(z))))


class ImageDecoder(eqx.Module):
    """Doublings of a plane's sides, each with a convolution before it, up to the image's, whose
    border of zeros is cut off.
    """

    convolutions: list[Conv]
    kernel: Float[Array, "3 3 inputs outputs"]
    bias: Float[Array, "outputs"]
    size: tuple[int, int] = eqx.field(static=True)

    def __init__(
        self, channels: int, image: tuple[int, ...], doublings: int, width: int, key: Key[Array, ""]
    ):
        rows, columns, outputs = image
        self.size = (rows, columns)
        *keys, last = jax.random.split(key, doublings + 1)
        self.convolutions = []
        for i, k in enumerate(keys):
            wide = max(width >> i, NARROWEST)
            self.convolutions.append(Conv(channels, wide, k))
            channels = wide
        spread = (1.0 / (9 * channels)) ** 0.5
        shape = (3, 3, channels, outputs)
        self.kernel = spread * jax.random.truncated_normal(last, -2.0, 2.0, shape)
        self.bias = jnp.zeros((outputs,))

    def __call__(self, z: Latent) -> Float[Array, "rows columns outputs"]:
        (x,) = jax.tree.leaves(z)
        for convolution in self.convolutions:
            x = doubled(jax.nn.relu(convolution(x)))
        return cropped(convolve(x, self.kernel) + self.bias, *self.size)


def doubled(x: Plane) -> Float[Array, "twice_height twice_width channels"]:
    """Every place four times."""
    return jnp.repeat(jnp.repeat(x, 2, axis=0), 2, axis=1)


def cropped(
    x: Float[Array, "rows columns channels"], height: int, width: int
) -> Float[Array, "{height} {width} channels"]:
    """What :func:`muscope.agent.pixels.framed` framed."""
    top, left = ((n - size) // 2 for size, n in zip((height, width), x.shape[:2], strict=True))
    return x[top : top + height, left : left + width]


def doublings(latent: Latent, spec: Spec) -> int:
    """How often the sides of a latent plane are doubled in the image's with its border; 0 if they
    are no such planes.
    """
    shapes = [x.shape for x in jax.tree.leaves(latent)]
    if len(shapes) != 1 or len(shapes[0]) != 3 or len(spec.observation_shape) != 3:
        return 0
    plane, image = shapes[0][:2], spec.observation_shape[:2]
    times = max(
        (-(-n // max(place, 1)) - 1).bit_length() for n, place in zip(image, plane, strict=True)
    )
    fits = plane == tuple(-(-n // (1 << times)) for n in image)
    return times if fits else 0


def initial(settings: Reconstruction, agent: MuZero, spec: Spec, key: Key[Array, ""]) -> Any:
    """An untrained decoder for an agent's latent states."""
    latent = form_of_latent(agent, spec)
    times = doublings(latent, spec)
    if times:
        channels = jax.tree.leaves(latent)[0].shape[-1]
        return ImageDecoder(channels, spec.observation_shape, times, settings.width, key)
    inputs = sum(x.size for x in jax.tree.leaves(latent))
    seen = jax.eval_shape(agent.seen, jax.ShapeDtypeStruct(spec.observation_shape, jnp.float32))
    return VectorDecoder(inputs, seen.size, settings.width, key)


def loss(settings: Reconstruction, decoder: Any, unrolled: Unrolled) -> Float[Array, ""]:
    """The mean squared error over components, summed over k = 0..K and weighted as MuZero's own
    losses are.
    """

    def squared(z: Latent, observation: Float[Array, "..."]) -> Float[Array, ""]:
        wanted = jax.lax.stop_gradient(unrolled.agent.seen(observation))
        return jnp.mean((jnp.ravel(decoder(z)) - jnp.ravel(wanted)) ** 2)

    return unrolled.total(jax.vmap(squared)(unrolled.latents, unrolled.observations))


TERM = Term("reconstruction", loss, Reconstruction, initial, later=True)
