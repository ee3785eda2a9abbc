"""Agents of LightZero: https://github.com/opendilab/LightZero, its MuZero only.

Facts from lzero/model/common.py, muzero_model.py and muzero_model_mlp.py at commit 9f717c8 and at
the tags v0.0.5, v0.1.0 and v0.2.0, and from DI-engine's layers (ding/torch_utils/network,
commit d0b21d0): ``MuZeroModelMLP`` and ``MuZeroModel`` (convolutional).  A state dict tells their
sizes, the kind of normalisation, the residual connection and how actions are encoded.  It does
not tell how h of an MLP ends, whether latent states are scaled, or where the bins lie; those are
arguments of :func:`read` with LightZero's defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from muscope.agent.support import Support, h_transform_inverse
from muscope.envs.base import Spec
from muscope.errors import CheckpointError, ConfigError
from muscope.foreign.base import ForeignAgent, Predictor
from muscope.foreign.layers import (
    Chain,
    Conv,
    Dense,
    Head,
    Image,
    Residual,
    ToImage,
    average_pool,
    conv,
    dense,
    no_images,
    norm,
    to_image,
)
from muscope.foreign.weights import Weights, weights_in

NAME = "lightzero"

_OTHERS = {
    "lstm": "EfficientZero: its rewards are differences of a value prefix with an LSTM's state",
    "chance_encoder": "Stochastic MuZero: its model has chance nodes",
    "afterstate": "Stochastic MuZero: its model has chance nodes",
    "world_model": "UniZero: its model is a transformer over the history",
}
"""Parts of names that only other models' arrays have, and why those are not read."""

End = Literal["layer-norm", "simnorm", "plain"]


def read(
    path: str | Path,
    spec: Spec | None = None,
    *,
    end: End | None = None,
    group: int = 8,
    state_norm: bool = False,
    value_limit: float | None = None,
    reward_limit: float | None = None,
    channels_last: bool | None = None,
    input_factor: float = 1.0,
) -> ForeignAgent:
    """The agent in a checkpoint (``ckpt_best.pth.tar`` and the like).

    Args:
        path: the checkpoint, or a bare state dict.
        spec: of the environment it is for, to check the sizes against.
        end: how h of an MLP ends: "layer-norm" (after v0.2.0), "simnorm" (v0.1.0 to v0.2.0), or
            "plain", with ReLU instead of GELU inside (before v0.1.0).  None takes "layer-norm"
            where the state dict has one, else "simnorm".
        group: components over which SimNorm takes a softmax; LightZero's default is 8.
        state_norm: whether latent states are scaled to [0, 1] after h and g.
        value_limit: the outermost bin of the value, after the h-transform; by default bins lie
            at whole numbers, 601 of them from -300 to 300.
        reward_limit: the same of the reward.
        channels_last: of a convolutional network, whether observations have their channels last;
            None finds out from ``spec``.
        input_factor: of a convolutional network, observations are multiplied by it first; 1/255
            where the game's are 0 to 255.

    Raises:
        CheckpointError: the file cannot be read, or holds something else, such as EfficientZero.
        ConfigError: the agent does not fit the environment, or the arguments not the agent.

    """
    weights = weights_in(path, NAME, "model", "representation_network.")
    _refuse_others(weights)
    if weights.has("representation_network.fc_representation"):
        no_images(path, channels_last, input_factor)
        parts = _mlp(weights, end, group, state_norm)
    elif end is not None:
        raise ConfigError(f"end={end!r} is for LightZero's MLP; {path} is convolutional.")
    else:
        parts = _convolutional(weights, spec, state_norm, channels_last, input_factor)
    weights.done(("projection.", "prediction_head."))
    return ForeignAgent(
        parts.representation,
        parts.dynamics,
        parts.prediction,
        _support(_outputs(parts.prediction.value), value_limit),
        _support(_outputs(parts.dynamics.reward), reward_limit),
        NAME,
        parts.inputs,
        _outputs(parts.prediction.policy),
    ).check(spec)


class _Parts(NamedTuple):
    """h, g, f, and the numbers in an observation (0: an image of any size)."""

    representation: Representation | ImageRepresentation
    dynamics: Dynamics | ImageDynamics
    prediction: SharedPredictor | ImagePredictor
    inputs: int


def _refuse_others(weights: Weights) -> None:
    for name in weights.names:
        for part, reason in _OTHERS.items():
            if part in name:
                raise CheckpointError(
                    f"{weights.path} holds LightZero's {reason}. Only MuZero is read; '{name}'."
                )


@dataclass(frozen=True)
class Number(Support):
    """A head of one output: h of the number itself, without bins."""

    def decode(self, logits: Float[Array, "... 1"]) -> Float[Array, "..."]:
        """h^-1 of the output."""
        return h_transform_inverse(logits[..., 0])


def _support(count: int, limit: float | None) -> Support:
    if count == 1:
        return Number(0.0, 1)
    return Support((count - 1) / 2 if limit is None else limit, count)


def _outputs(head: Chain | Head) -> int:
    layers = head.layers.layers if isinstance(head, Head) else head.layers
    return layers[-1].bias.size


class SimNorm(eqx.Module):
    """Softmax over groups of components (Lavoie et al. 2022, *Simplicial Embeddings*)."""

    group: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "D"]) -> Float[Array, "D"]:
        return jax.nn.softmax(x.reshape(-1, self.group)).reshape(x.shape)


class Renorm(eqx.Module):
    """To [0, 1] by minimum and maximum over the whole latent state."""

    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        low, high = jnp.min(z), jnp.max(z)
        return (z - low) / jnp.maximum(high - low, 1e-8)


def _encoded(action: Int[Array, ""], size: int, num_actions: int) -> Float[Array, "codes"]:
    """One-hot, or a / A where there is room for one number only."""
    if size == num_actions:
        return jax.nn.one_hot(action, num_actions)
    return (action / num_actions)[None]


def _code_size(weights: Weights, inputs: int, latent: int, num_actions: int) -> int:
    """Numbers by which g is told the action."""
    size = inputs - latent
    if size not in (1, num_actions):
        raise weights.foreign(f"g takes {inputs} inputs for {latent} of the latent state")
    return size


# The MLP -----------------------------------------------------------------------------------


class Representation(eqx.Module):
    """h of a flat observation."""

    layers: Chain

    def __call__(self, observation: Float[Array, "..."]) -> Float[Array, "D"]:
        return self.layers(observation.reshape(-1))


class Dynamics(eqx.Module):
    """g; with a residual connection, the reward's head reads further layers of the next state."""

    state: Chain
    further: Chain | None
    reward: Chain
    code: int = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)
    renorm: Renorm | None

    def __call__(
        self, z: Float[Array, "D"], action: Int[Array, ""]
    ) -> tuple[Float[Array, "D"], Float[Array, "bins"]]:
        code = _encoded(action, self.code, self.num_actions)
        following = self.state(jnp.concatenate([z, code]))
        if self.further is None:
            reward = self.reward(following)
        else:
            following = following + z
            reward = self.reward(self.further(following))
        return following if self.renorm is None else self.renorm(following), reward


class SharedPredictor(eqx.Module):
    """f with common layers."""

    common: Chain
    policy: Chain
    value: Chain

    def __call__(self, z: Float[Array, "D"]) -> tuple[Float[Array, "A"], Float[Array, "bins"]]:
        return Predictor(self.policy, self.value)(self.common(z))


def _mlp(weights: Weights, end: End | None, group: int, state_norm: bool) -> _Parts:
    h, g, f = "representation_network", "dynamics_network", "prediction_network"
    renorm = Renorm() if state_norm else None
    has_norm = weights.has(f"{h}.norm")
    end = end or ("layer-norm" if has_norm else "simnorm")
    if has_norm != (end == "layer-norm"):
        raise ConfigError(
            f"end={end!r} does not fit {weights.path}, whose h ends "
            f"{'in' if has_norm else 'without'} a layer normalisation."
        )
    layers = _layers(weights, f"{h}.fc_representation", "relu" if end == "plain" else "gelu-tanh")
    inputs, latent = layers[0].weight.shape[0], layers[-1].bias.size
    if end == "simnorm" and latent % group:
        raise ConfigError(f"group={group} does not divide the latent state's {latent} components.")
    ends: tuple = () if renorm is None else (renorm,)
    if end == "layer-norm":
        ends = (norm(weights, f"{h}.norm"), *ends)
    elif end == "simnorm":
        ends = (SimNorm(group), *ends)
    representation = Representation(Chain((*layers, *ends)))
    prediction = SharedPredictor(
        Chain(_layers(weights, f"{f}.fc_prediction_common", "relu", active_end=True)),
        Chain(_layers(weights, f"{f}.fc_policy_head", "relu")),
        Chain(_layers(weights, f"{f}.fc_value_head", "relu")),
    )
    actions = prediction.policy.layers[-1].bias.size
    residual = weights.has(f"{g}.fc_dynamics_1")
    first = "fc_dynamics_1" if residual else "fc_dynamics"
    state = Chain(_layers(weights, f"{g}.{first}", "relu", active_end=True))
    further = None
    if residual:
        further = Chain(_layers(weights, f"{g}.fc_dynamics_2", "relu", active_end=True))
    reward = Chain(_layers(weights, f"{g}.fc_reward_head", "relu"))
    code = _code_size(weights, state.layers[0].weight.shape[0], latent, actions)
    dynamics = Dynamics(state, further, reward, code, actions, renorm)
    return _Parts(representation, dynamics, prediction, inputs)


def _layers(
    weights: Weights, name: str, activation: str, active_end: bool = False
) -> tuple[Dense, ...]:
    """Fully connected layers, each with the normalisation that the state dict has after it."""
    numbers = weights.numbered(name)
    linear = [n for n in numbers if len(weights.shape(f"{name}.{n}.weight")) == 2]
    if not linear:
        raise weights.foreign(f"there is no '{name}.0.weight'")
    return tuple(
        dense(
            weights,
            f"{name}.{n}",
            f"{name}.{n + 1}" if n + 1 in numbers and n + 1 not in linear else "",
            "none" if n == linear[-1] and not active_end else activation,
        )
        for n in linear
    )


# The convolutional network -----------------------------------------------------------------


class ImageRepresentation(eqx.Module):
    """h of an image."""

    view: ToImage
    layers: Chain

    def __call__(self, observation: Float[Array, "..."]) -> Image:
        return self.layers(self.view(observation))


class DownSample(eqx.Module):
    """Down to an eighth of the image, or, of images of another size than 64, a sixteenth."""

    layers: Chain
    last_residuals: Chain

    def __call__(self, x: Image) -> Float[Array, "h w outputs"]:
        height = x.shape[0]
        x = self.last_residuals(average_pool(self.layers(x)))
        return x if height == 64 else average_pool(x)


class ImageDynamics(eqx.Module):
    """g with the action as further planes, and the latent state added to the first layer's."""

    first: Conv
    residuals: Chain
    reward: Head
    num_actions: int = eqx.field(static=True)
    renorm: Renorm | None

    def __call__(self, z: Image, action: Int[Array, ""]) -> tuple[Image, Float[Array, "bins"]]:
        size = self.first.kernel.shape[2] - z.shape[-1]
        code = _encoded(action, size, self.num_actions)
        planes = jnp.broadcast_to(code, (*z.shape[:2], size))
        following = jax.nn.relu(z + self.first(jnp.concatenate([z, planes], axis=-1)))
        following = self.residuals(following)
        reward = self.reward(following)
        return following if self.renorm is None else self.renorm(following), reward


class ImagePredictor(eqx.Module):
    """f of an image."""

    residuals: Chain
    policy: Head
    value: Head

    def __call__(self, z: Image) -> tuple[Float[Array, "A"], Float[Array, "bins"]]:
        x = self.residuals(z)
        return self.policy(x), self.value(x)


def _convolutional(
    weights: Weights,
    spec: Spec | None,
    state_norm: bool,
    channels_last: bool | None,
    factor: float,
) -> _Parts:
    h, g, f = "representation_network", "dynamics_network", "prediction_network"
    renorm = Renorm() if state_norm else None
    down = f"{h}.downsample_net"
    stem = (
        (_down_sample(weights, down),)
        if weights.has(down)
        else (conv(weights, f"{h}.conv", f"{h}.norm", "relu"),)
    )
    renorms = () if renorm is None else (renorm,)
    layers = Chain((*stem, *_residuals(weights, f"{h}.resblocks"), *renorms))
    prediction = ImagePredictor(
        Chain(_residuals(weights, f"{f}.resblocks")),
        _head(weights, f, "conv1x1_policy", "norm_policy", "fc_policy"),
        _head(weights, f, "conv1x1_value", "norm_value", "fc_value"),
    )
    actions = _outputs(prediction.policy)
    first = conv(weights, f"{g}.conv", f"{g}.norm_common")
    _code_size(weights, first.kernel.shape[2], first.kernel.shape[3], actions)
    dynamics = ImageDynamics(
        first,
        Chain(_residuals(weights, f"{g}.resblocks")),
        _head(weights, g, "conv1x1_reward", "norm_reward", "fc_reward_head"),
        actions,
        renorm,
    )
    name = f"{down}.conv1" if weights.has(down) else f"{h}.conv"
    view = to_image(
        None if spec is None else spec.observation_shape,
        weights.shape(f"{name}.weight")[1],
        channels_last,
        factor,
        (-1, 1, 1),
    )
    return _Parts(ImageRepresentation(view, layers), dynamics, prediction, 0)


def _down_sample(weights: Weights, name: str) -> DownSample:
    return DownSample(
        Chain(
            (
                conv(weights, f"{name}.conv1", f"{name}.norm1", "relu", stride=2),
                *_residuals(weights, f"{name}.resblocks1"),
                _residual(weights, f"{name}.downsample_block", stride=2),
                *_residuals(weights, f"{name}.resblocks2"),
            )
        ),
        Chain(_residuals(weights, f"{name}.resblocks3")),
    )


def _residuals(weights: Weights, name: str) -> tuple[Residual, ...]:
    return tuple(_residual(weights, f"{name}.{n}") for n in weights.numbered(name))


def _residual(weights: Weights, name: str, stride: int = 1) -> Residual:
    return Residual(
        conv(weights, f"{name}.conv1.0", f"{name}.conv1.1", "relu", stride),
        conv(weights, f"{name}.conv2.0", f"{name}.conv2.1"),
        conv(weights, f"{name}.conv3.0", stride=stride) if stride > 1 else None,
    )


def _head(weights: Weights, name: str, squeeze: str, after: str, layers: str) -> Head:
    return Head(
        conv(weights, f"{name}.{squeeze}", f"{name}.{after}", "relu", padding=0),
        Chain(_layers(weights, f"{name}.{layers}", "relu")),
    )
