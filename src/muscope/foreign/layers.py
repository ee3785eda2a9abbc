"""Layers of other packages' networks as JAX modules, made from a state dict's arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from muscope.errors import ConfigError
from muscope.foreign.weights import Weights

EPSILON = 1e-5
"""What PyTorch's normalisations add to a variance by default."""

Image = Float[Array, "height width channels"]


class Norm(eqx.Module):
    """Zero mean and unit variance over one sample, then a scale and a shift."""

    scale: Float[Array, "..."]
    shift: Float[Array, "..."]

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        centred = x - jnp.mean(x)
        unit = centred * jax.lax.rsqrt(jnp.mean(centred * centred) + EPSILON)
        return unit * self.scale + self.shift


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "none": lambda x: x,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu-tanh": lambda x: jax.nn.gelu(x, approximate=True),
}


class Dense(eqx.Module):
    """activation(norm(x W + b)) with W stored [in, out]."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, "outputs"]
    norm: Norm | None
    activation: str = eqx.field(static=True)

    def __call__(self, x: Float[Array, "inputs"]) -> Float[Array, "outputs"]:
        x = x @ self.weight + self.bias
        x = x if self.norm is None else self.norm(x)
        return ACTIVATIONS[self.activation](x)


class Conv(eqx.Module):
    """activation(norm(cross-correlation with zeros beyond the border))."""

    kernel: Float[Array, "h w inputs outputs"]
    bias: Float[Array, "outputs"]
    norm: Norm | None
    activation: str = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)

    def __call__(self, x: Image) -> Float[Array, "h w outputs"]:
        x = jax.lax.conv_general_dilated(
            x[None],
            self.kernel,
            (self.stride, self.stride),
            ((self.padding, self.padding),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )[0]
        x = x + self.bias
        x = x if self.norm is None else self.norm(x)
        return ACTIVATIONS[self.activation](x)


class Residual(eqx.Module):
    """relu(x + two convolutions of x); ``skip`` replaces x where the size changes."""

    first: Conv
    second: Conv
    skip: Conv | None = None

    def __call__(self, x: Image) -> Float[Array, "h w outputs"]:
        same = x if self.skip is None else self.skip(x)
        return jax.nn.relu(same + self.second(self.first(x)))


class Chain(eqx.Module):
    """Layers in turn."""

    layers: tuple[Any, ...]

    def __call__(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer(x)
        return x


class Head(eqx.Module):
    """A 1x1 convolution, then fully connected layers on what PyTorch calls its flat output."""

    squeeze: Conv
    layers: Chain

    def __call__(self, x: Image) -> Float[Array, "outputs"]:
        return self.layers(self.squeeze(x).transpose(2, 0, 1).reshape(-1))


def dense(weights: Weights, name: str, norm: str = "", activation: str = "none") -> Dense:
    """A fully connected layer; ``norm`` is the name of the normalisation after it, if any."""
    weight, bias = weights(f"{name}.weight", 2).T, weights(f"{name}.bias", 1)
    scale, shift, after = _normalised(weights, norm)
    return Dense(_array(weight * scale), _array(bias * scale + shift), after, activation)


def conv(
    weights: Weights,
    name: str,
    norm: str = "",
    activation: str = "none",
    stride: int = 1,
    padding: int = 1,
) -> Conv:
    """A convolution; ``norm`` is the name of the normalisation after it, if any."""
    kernel = weights(f"{name}.weight", 4).transpose(2, 3, 1, 0)
    has_bias = weights.has(f"{name}.bias")
    bias = weights(f"{name}.bias", 1) if has_bias else np.zeros(kernel.shape[-1])
    scale, shift, after = _normalised(weights, norm)
    return Conv(
        _array(kernel * scale), _array(bias * scale + shift), after, activation, stride, padding
    )


def _normalised(weights: Weights, name: str) -> tuple[Any, Any, Norm | None]:
    """A factor and a shift of the layer before, and what normalises each sample.

    In evaluation, batch normalisation is a factor and a shift by running statistics.
    """
    if not name:
        return 1.0, 0.0, None
    if weights.has(f"{name}.running_mean"):
        scale = weights(f"{name}.weight", 1)
        scale = scale / np.sqrt(weights(f"{name}.running_var", 1) + EPSILON)
        shift = weights(f"{name}.bias", 1) - weights(f"{name}.running_mean", 1) * scale
        return scale, shift, None
    return 1.0, 0.0, norm(weights, name)


def norm(weights: Weights, name: str) -> Norm:
    """A layer normalisation, per component (images: [C, H, W]) or per channel."""
    dimensions = len(weights.shape(f"{name}.weight"))
    arrays = (weights(f"{name}.{part}", dimensions) for part in ("weight", "bias"))
    return Norm(*(_array(x.transpose(1, 2, 0) if dimensions == 3 else x) for x in arrays))


def _array(x: np.ndarray) -> Array:
    return jnp.asarray(x, jnp.float32)


def plain_layers(weights: Weights, name: str, activation: str) -> Chain:
    """Fully connected layers with an activation between, none after the last."""
    numbers = weights.numbered(name)
    if not numbers:
        raise weights.foreign(f"there is no '{name}.0.weight'")
    return Chain(
        tuple(
            dense(weights, f"{name}.{n}", activation="none" if n == numbers[-1] else activation)
            for n in numbers
        )
    )


def average_pool(x: Image) -> Float[Array, "h w channels"]:
    """Means of 3x3, every second; zeros beyond the border count."""
    sums = jax.lax.reduce_window(
        x, 0.0, jax.lax.add, (3, 3, 1), (2, 2, 1), ((1, 1), (1, 1), (0, 0))
    )
    return sums / 9.0


class ToImage(eqx.Module):
    """An observation as an image with channels last, as the network saw it in training."""

    channels_last: bool = eqx.field(static=True)
    factor: float = eqx.field(static=True)
    flat: tuple[int, int, int] = eqx.field(static=True)
    """[height, width, channels] of a flat observation, with one -1."""

    def __call__(self, observation: Float[Array, "..."]) -> Image:
        if observation.ndim == 1:
            observation = observation.reshape(self.flat)
        elif not self.channels_last:
            observation = observation.transpose(1, 2, 0)
        return observation * self.factor


def no_images(path: Any, channels_last: bool | None, factor: float) -> None:
    """Refuse arguments that only networks of images have.

    Raises:
        ConfigError: one of them was given.

    """
    if channels_last is not None or factor != 1.0:
        raise ConfigError(
            f"channels_last and input_factor are for images; the network in {path} is fully "
            "connected."
        )


def to_image(
    shape: tuple[int, ...] | None,
    channels: int,
    channels_last: bool | None,
    factor: float,
    flat: tuple[int, int, int],
) -> ToImage:
    """How observations become images.

    Args:
        shape: an observation's, where it is known.
        channels: how many the network takes.
        channels_last: None finds the channels' axis by its size.  Without a shape it comes first,
            as in the packages' own observations.
        factor: observations are multiplied by it.
        flat: see :class:`ToImage`.

    Raises:
        ConfigError: no axis has that size, or two have.

    """
    last = bool(channels_last)
    if shape is not None:
        fitting = _fitting(shape, channels)
        if channels_last is None and len(fitting) == 2:
            raise ConfigError(
                f"observations of shape {shape} may have their {channels} channels first or "
                "last; say which by channels_last=False or True."
            )
        if not fitting or channels_last not in (None, *fitting):
            raise ConfigError(
                f"the network takes images of {channels} channels; observations have the shape "
                f"{shape}."
            )
        last = fitting[0] if channels_last is None else channels_last
    return ToImage(last, factor, flat)


def _fitting(shape: tuple[int, ...], channels: int) -> list[bool]:
    """For which answers to "channels last?" observations have so many channels."""
    if len(shape) == 1:
        return [False] if channels == 1 else []
    if len(shape) != 3:
        return []
    return [last for last in (False, True) if shape[-1 if last else 0] == channels]
