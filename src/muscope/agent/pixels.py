"""The networks of a MuZero agent that sees images, ``network.kind = "resnet"``.

After the set-up that the paper refers to (EfficientZero's, Ye et al. 2021, without its own
additions): convolutions down to a latent state of at most 6x6, one :class:`Residual` in the
dynamics and in the prediction, heads of a 1x1 convolution and one hidden layer, last layers zero.
Layer normalisation stands in for batch normalisation, because it keeps no running state and means
the same for one agent or many; what it cannot do, bring out the few pixels that change,
standardised observations do.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from muscope.agent.convolution import convolve
from muscope.agent.networks import Linear, MuZero, register
from muscope.agent.standardise import Standardise
from muscope.agent.support import Support
from muscope.config import NetworkConfig
from muscope.envs.base import Spec
from muscope.errors import ConfigError

SMALLEST = 16  # pixels of a side
SIDE = 6  # most height and width of the latent state

Plane = Float[Array, "height width channels"]


class Sides(NamedTuple):
    """Sizes of an image's latent state."""

    height: int
    width: int
    halvings: int
    """From the image, with a border of zeros up to a multiple, to the latent state."""


def sides(shape: tuple[int, ...]) -> Sides:
    """Of images of a shape.

    Raises:
        ConfigError: these are no images, or are too small.

    """
    if len(shape) != 3 or min(shape[:2]) < SMALLEST:
        raise ConfigError(
            f"network.kind = 'resnet' needs images of shape (rows, columns, channels), at least "
            f"{SMALLEST} x {SMALLEST}, not observations of shape {shape}."
        )
    halvings = max(2, (-(-max(shape[:2]) // SIDE) - 1).bit_length())
    height, width = (-(-n // (1 << halvings)) for n in shape[:2])
    return Sides(height, width, halvings)


class Norm(eqx.Module):
    """Zero mean and unit variance over one sample, then a scale and a shift per channel."""

    scale: Float[Array, "channels"]
    shift: Float[Array, "channels"]

    def __init__(self, channels: int):
        self.scale = jnp.ones((channels,))
        self.shift = jnp.zeros((channels,))

    def __call__(self, x: Float[Array, "*side channels"]) -> Float[Array, "*side channels"]:
        return _normed(x, self.scale, self.shift)


def _unit(x: Float[Array, "*side channels"]) -> tuple[Array, Float[Array, ""]]:
    """With zero mean and unit variance, and what it was divided by, inverted."""
    centred = x - jnp.mean(x)
    inverse = jax.lax.rsqrt(jnp.mean(centred * centred) + 1e-5)
    return centred * inverse, inverse


@jax.custom_jvp
def _normed(
    x: Float[Array, "*side channels"],
    scale: Float[Array, "channels"],
    shift: Float[Array, "channels"],
) -> Float[Array, "*side channels"]:
    return _unit(x)[0] * scale + shift


@_normed.defjvp
def _tangent(primals, tangents):
    """Whatever depends on the mean and the variance is said per channel, so that its transpose
    sums the gradient once, over the sides, for the input, the scale and the shift alike.
    """
    (x, scale, shift), (x_dot, scale_dot, shift_dot) = primals, tangents
    unit, inverse = _unit(x)
    sides = tuple(range(x.ndim - 1))
    mean = jnp.sum(jnp.sum(x_dot, sides)) / x.size
    along = jnp.sum(jnp.sum(unit * x_dot, sides)) / x.size
    slope = scale * inverse
    through = x_dot * slope + unit * (scale_dot - slope * along) + (shift_dot - slope * mean)
    return unit * scale + shift, through


class Conv(eqx.Module):
    """A 3x3 convolution without bias, and its norm."""

    kernel: Float[Array, "3 3 inputs outputs"]
    norm: Norm
    stride: int = eqx.field(static=True)

    def __init__(self, inputs: int, outputs: int, key: Key[Array, ""], stride: int = 1):
        spread = (2.0 / (9 * inputs)) ** 0.5
        self.kernel = spread * jax.random.truncated_normal(key, -2.0, 2.0, (3, 3, inputs, outputs))
        self.norm = Norm(outputs)
        self.stride = stride

    def __call__(self, x: Plane) -> Float[Array, "h w outputs"]:
        return self.norm(convolve(x, self.kernel, self.stride))


class Residual(eqx.Module):
    """relu(x + two convolutions of x)."""

    first: Conv
    second: Conv

    def __init__(self, channels: int, key: Key[Array, ""]):
        k1, k2 = jax.random.split(key)
        self.first = Conv(channels, channels, k1)
        self.second = Conv(channels, channels, k2)

    def __call__(self, x: Plane) -> Plane:
        return jax.nn.relu(x + self.second(jax.nn.relu(self.first(x))))


class Head(eqx.Module):
    """A 1x1 convolution, a hidden layer and logits that start at zero."""

    squeeze: Linear
    squeeze_norm: Norm
    hidden: Linear
    hidden_norm: Norm
    out: Linear

    def __init__(self, config: NetworkConfig, at: Sides, outputs: int, key: Key[Array, ""]):
        k1, k2, k3 = jax.random.split(key, 3)
        narrow = config.head_channels
        self.squeeze = Linear(config.channels, narrow, k1)
        self.squeeze_norm = Norm(narrow)
        self.hidden = Linear(at.height * at.width * narrow, config.width, k2)
        self.hidden_norm = Norm(config.width)
        self.out = Linear(config.width, outputs, k3, zero=True)

    def __call__(self, x: Plane) -> Float[Array, "outputs"]:
        x = jax.nn.relu(self.squeeze_norm(x @ self.squeeze.weight + self.squeeze.bias))
        x = jax.nn.relu(self.hidden_norm(self.hidden(x.reshape(-1))))
        return self.out(x)


def scaled(z: Plane) -> Plane:
    """One latent state with its components scaled to [0, 1].

    The extremes are taken by place.  The gradient of ``jnp.max`` divides by how many components
    equal it: by 0 where a compiler computes them twice and rounds them differently.
    """
    components = z.reshape(-1)
    fixed = jax.lax.stop_gradient(components)
    low, high = components[jnp.argmin(fixed)], components[jnp.argmax(fixed)]
    return (z - low) / jnp.maximum(high - low, 1e-5)


def halved(x: Plane) -> Float[Array, "half_height half_width channels"]:
    """Means of 2x2 squares."""
    height, width, channels = x.shape
    return x.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3))


def framed(x: Plane, height: int, width: int) -> Float[Array, "{height} {width} channels"]:
    """An image in the midst of zeros; as it is if it has the size already."""
    missing = [size - n for size, n in zip((height, width), x.shape[:2], strict=True)]
    return jnp.pad(x, [*((n // 2, n - n // 2) for n in missing), (0, 0)]) if any(missing) else x


class Representation(eqx.Module):
    """h: two convolutions of stride 2, then a :class:`Residual` before every further halving, on
    standardised pixels with a border of zeros up to a size that can be halved so often.
    """

    view: Standardise | eqx.nn.Identity
    stem: Conv
    stem_block: Residual  # a field's name is its arrays' in checkpoints
    down: Conv
    blocks: list[Residual]
    size: tuple[int, int] = eqx.field(static=True)

    def __init__(self, spec: Spec, config: NetworkConfig, key: Key[Array, ""]):
        shape = spec.observation_shape
        height, width, halvings = sides(shape)
        self.size = (height << halvings, width << halvings)
        k1, k2, k3, *keys = jax.random.split(key, 2 + halvings)
        half = config.channels // 2
        self.view = Standardise(shape) if config.standardise else eqx.nn.Identity()
        self.stem = Conv(shape[-1], half, k1, stride=2)
        self.stem_block = Residual(half, k2)
        self.down = Conv(half, config.channels, k3, stride=2)
        self.blocks = [Residual(config.channels, k) for k in keys]

    def __call__(self, observation: Float[Array, "rows columns frames"]) -> Plane:
        x = framed(self.view(observation), *self.size)
        x = self.stem_block(jax.nn.relu(self.stem(x)))
        x = jax.nn.relu(self.down(x))
        for i, residual in enumerate(self.blocks):
            x = residual(halved(x) if i else x)
        return scaled(x)


class Dynamics(eqx.Module):
    """g: the action joins the latent state as one plane per action, of which one is 1."""

    join: Conv
    block: Residual
    reward: Head
    num_actions: int = eqx.field(static=True)

    def __init__(self, num_actions: int, config: NetworkConfig, at: Sides, key: Key[Array, ""]):
        k1, k2, k3 = jax.random.split(key, 3)
        self.join = Conv(config.channels + num_actions, config.channels, k1)
        self.block = Residual(config.channels, k2)
        self.reward = Head(config, at, config.reward_bins, k3)
        self.num_actions = num_actions

    def __call__(self, z: Plane, action: Int[Array, ""]) -> tuple[Plane, Float[Array, "bins"]]:
        one_hot = jax.nn.one_hot(action, self.num_actions)
        planes = jnp.broadcast_to(one_hot, (*z.shape[:2], self.num_actions))
        x = jax.nn.relu(z + self.join(jnp.concatenate([z, planes], axis=-1)))
        x = self.block(x)
        return scaled(x), self.reward(x)


class Predictor(eqx.Module):
    """f: a :class:`Residual` and two heads."""

    block: Residual
    policy: Head
    value: Head

    def __init__(self, num_actions: int, config: NetworkConfig, at: Sides, key: Key[Array, ""]):
        k1, k2, k3 = jax.random.split(key, 3)
        self.block = Residual(config.channels, k1)
        self.policy = Head(config, at, num_actions, k2)
        self.value = Head(config, at, config.value_bins, k3)

    def __call__(self, z: Plane) -> tuple[Float[Array, "A"], Float[Array, "bins"]]:
        x = self.block(z)
        return self.policy(x), self.value(x)


def resnet(config: NetworkConfig, spec: Spec, key: Key[Array, ""]) -> MuZero:
    """An agent for images.

    Raises:
        ConfigError: the observations are something else, or too small.

    """
    at = sides(spec.observation_shape)
    k1, k2, k3 = jax.random.split(key, 3)
    return MuZero(
        Representation(spec, config, k1),
        Dynamics(spec.num_actions, config, at, k2),
        Predictor(spec.num_actions, config, at, k3),
        Support(config.value_limit, config.value_bins),
        Support(config.reward_limit, config.reward_bins),
    )


# Side by side their convolutions become one grouped convolution, which on a CPU takes 3 times as
# long as the agents' own.
register("resnet", resnet, in_turn_on_cpu=True)
