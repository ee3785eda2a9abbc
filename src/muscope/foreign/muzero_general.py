"""Agents of muzero-general: https://github.com/werner-duvaud/muzero-general.

Facts from its models.py and self_play.py at commit 0825bd5: both kinds of network, fully
connected and residual, the latter with no down-sampling, "resnet" or "CNN".  All sizes are told
by the state dict.  Values are those of the player to move; only one-player games make sense here.
"""

from __future__ import annotations

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from muscope.envs.base import Spec
from muscope.foreign.base import (
    Dynamics,
    ForeignAgent,
    Predictor,
    Representation,
    whole_bins,
)
from muscope.foreign.layers import (
    Chain,
    Conv,
    Head,
    Image,
    Residual,
    ToImage,
    average_pool,
    conv,
    no_images,
    plain_layers,
    to_image,
)
from muscope.foreign.weights import Weights, weights_in

NAME = "muzero-general"


def read(
    path: str | Path,
    spec: Spec | None = None,
    *,
    channels_last: bool | None = None,
    input_factor: float = 1.0,
) -> ForeignAgent:
    """The agent in a ``model.checkpoint``.

    Its rewards and values are in the units of its own training: Lunar Lander's are a third of
    the game's, see :mod:`muscope.foreign.games` and :class:`muscope.foreign.Scaled`.

    Args:
        path: the checkpoint, or a bare state dict.
        spec: of the environment it is for, to check the sizes against.
        channels_last: of a residual network, whether observations have their channels last; None
            finds out from ``spec``.
        input_factor: of a residual network, observations are multiplied by it first; 1/255 where
            the game's are 0 to 255.

    Raises:
        CheckpointError: the file cannot be read or holds something else.
        ConfigError: the agent does not fit the environment.

    """
    weights = weights_in(path, NAME, "weights", "representation_network.module.")
    if weights.has("dynamics_encoded_state_network"):
        no_images(path, channels_last, input_factor)
        agent = _fully_connected(weights)
    else:
        agent = _residual(weights, spec, channels_last, input_factor)
    return agent.check(spec)


def _scaled(z: Float[Array, "..."], axes: tuple[int, ...] = (0,)) -> Float[Array, "..."]:
    """To [0, 1] by minimum and maximum over the axes; a small range gets 1e-5 added."""
    low, high = jnp.min(z, axes, keepdims=True), jnp.max(z, axes, keepdims=True)
    width = high - low
    return (z - low) / jnp.where(width < 1e-5, width + 1e-5, width)


def _scaled_per_channel(z: Image) -> Image:
    return _scaled(z, (0, 1))


def _fully_connected(weights: Weights) -> ForeignAgent:
    def layers(name: str) -> Chain:
        return plain_layers(weights, f"{name}.module", "elu")

    representation = layers("representation_network")
    prediction = Predictor(layers("prediction_policy_network"), layers("prediction_value_network"))
    actions = prediction.policy.layers[-1].bias.size
    state, reward = layers("dynamics_encoded_state_network"), layers("dynamics_reward_network")
    weights.done()
    bins = whole_bins(reward.layers[-1].bias.size)
    return ForeignAgent(
        Representation(representation, _scaled),
        Dynamics(state, reward, actions, _scaled),
        prediction,
        whole_bins(prediction.value.layers[-1].bias.size),
        bins,
        NAME,
        representation.layers[0].weight.shape[0],
        actions,
    )


class Pool(eqx.Module):
    """Pooling without parameters."""

    kind: str = eqx.field(static=True)
    height: int = eqx.field(static=True, default=0)
    width: int = eqx.field(static=True, default=0)

    def __call__(self, x: Image) -> Float[Array, "h w channels"]:
        if self.kind == "average":
            return average_pool(x)
        if self.kind == "maximum":
            return jax.lax.reduce_window(
                x, -jnp.inf, jax.lax.max, (3, 3, 1), (2, 2, 1), ((0, 0), (0, 0), (0, 0))
            )
        rows, columns = _spans(x.shape[0], self.height), _spans(x.shape[1], self.width)
        return jnp.einsum("ih,hwc,jw->ijc", rows, x, columns)


def _spans(size: int, count: int) -> Float[Array, "count size"]:
    """Means over spans i size / count, rounded down, to (i + 1) size / count, rounded up."""
    means = np.zeros((count, size), np.float32)
    for i in range(count):
        begin, end = i * size // count, -(-(i + 1) * size // count)
        means[i, begin:end] = 1 / (end - begin)
    return jnp.asarray(means)


class ImageRepresentation(eqx.Module):
    """h of an image."""

    view: ToImage
    layers: Chain

    def __call__(self, observation: Float[Array, "..."]) -> Image:
        return _scaled_per_channel(self.layers(self.view(observation)))


class ImageDynamics(eqx.Module):
    """g with the action as one more plane, a / A everywhere; the reward's head reads the latent
    before it is scaled.
    """

    layers: Chain
    reward: Head
    num_actions: int = eqx.field(static=True)

    def __call__(self, z: Image, action: Int[Array, ""]) -> tuple[Image, Float[Array, "bins"]]:
        plane = jnp.full((*z.shape[:2], 1), action / self.num_actions, z.dtype)
        following = self.layers(jnp.concatenate([z, plane], axis=-1))
        return _scaled_per_channel(following), self.reward(following)


class ImagePredictor(eqx.Module):
    """f of an image."""

    layers: Chain
    policy: Head
    value: Head

    def __call__(self, z: Image) -> tuple[Float[Array, "A"], Float[Array, "bins"]]:
        x = self.layers(z)
        return self.policy(x), self.value(x)


def _residual(
    weights: Weights, spec: Spec | None, channels_last: bool | None, factor: float
) -> ForeignAgent:
    h, g, f = (f"{part}_network.module" for part in ("representation", "dynamics", "prediction"))
    prediction = ImagePredictor(
        Chain(_residuals(weights, f"{f}.resblocks")),
        _head(weights, f, "conv1x1_policy", "fc_policy"),
        _head(weights, f, "conv1x1_value", "fc_value"),
    )
    actions = prediction.policy.layers.layers[-1].bias.size
    g_layers = (_first(weights, g), *_residuals(weights, f"{g}.resblocks"))
    dynamics = ImageDynamics(Chain(g_layers), _head(weights, g, "conv1x1_reward", "fc"), actions)
    side = prediction.value.layers.layers[0].weight.shape[0] // prediction.value.squeeze.bias.size
    stem = _stem(weights, h, side)
    representation = Chain((*stem, *_residuals(weights, f"{h}.resblocks")))
    unused = (f"{h}.conv.", f"{h}.bn.") if weights.has(f"{h}.downsample_net") else ()
    weights.done(unused)
    view = to_image(
        None if spec is None else spec.observation_shape,
        stem[0].kernel.shape[2],
        channels_last,
        factor,
        (1, -1, 1),
    )
    return ForeignAgent(
        ImageRepresentation(view, representation),
        dynamics,
        prediction,
        whole_bins(prediction.value.layers.layers[-1].bias.size),
        whole_bins(dynamics.reward.layers.layers[-1].bias.size),
        NAME,
        0,
        actions,
    )


def _stem(weights: Weights, name: str, area: int) -> tuple:
    """Layers of h before its residual layers, for a latent state of ``area`` positions."""
    down = f"{name}.downsample_net"
    if weights.has(f"{down}.features"):
        height = weights.shape(f"{down}.features.0.weight")[2] // 2
        return (
            conv(weights, f"{down}.features.0", activation="relu", stride=4, padding=2),
            Pool("maximum"),
            conv(weights, f"{down}.features.3", activation="relu", padding=2),
            Pool("maximum"),
            Pool("adaptive", height, area // height),
        )
    if weights.has(down):
        return (
            conv(weights, f"{down}.conv1", stride=2),
            *_residuals(weights, f"{down}.resblocks1"),
            conv(weights, f"{down}.conv2", stride=2),
            *_residuals(weights, f"{down}.resblocks2"),
            Pool("average"),
            *_residuals(weights, f"{down}.resblocks3"),
            Pool("average"),
        )
    return (_first(weights, name),)


def _first(weights: Weights, name: str) -> Conv:
    return conv(weights, f"{name}.conv", f"{name}.bn", "relu")


def _residuals(weights: Weights, name: str) -> tuple[Residual, ...]:
    return tuple(
        Residual(
            conv(weights, f"{name}.{n}.conv1", f"{name}.{n}.bn1", "relu"),
            conv(weights, f"{name}.{n}.conv2", f"{name}.{n}.bn2"),
        )
        for n in weights.numbered(name)
    )


def _head(weights: Weights, name: str, squeeze: str, layers: str) -> Head:
    return Head(
        conv(weights, f"{name}.{squeeze}", padding=0),
        plain_layers(weights, f"{name}.{layers}", "elu"),
    )
