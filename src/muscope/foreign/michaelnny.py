"""Agents of michaelnny/muzero: https://github.com/michaelnny/muzero.

Facts from its muzero/network.py, util.py and gym_env.py at commit dba15f1: the fully connected
network for vectors.  It sees the last observations, newest first, each with the action that led
to it: :func:`history` wraps an environment so.
"""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
from jaxtyping import Array, Float

from muscope.envs.base import Environment, Spec
from muscope.foreign.base import (
    Dynamics,
    ForeignAgent,
    Predictor,
    Representation,
    whole_bins,
)
from muscope.foreign.layers import Chain, plain_layers
from muscope.foreign.weights import weights_in
from muscope.foreign.wrappers import WithHistory

NAME = "michaelnny"


def read(path: str | Path, spec: Spec | None = None) -> ForeignAgent:
    """The agent in one of its ``saved_checkpoints``.

    Args:
        path: the checkpoint, or a bare state dict.
        spec: of the environment it is for, wrapped by :func:`history`, to check the sizes.

    Raises:
        CheckpointError: the file cannot be read or holds something else, such as one of the
            package's convolutional networks.
        ConfigError: the agent does not fit the environment.

    """
    weights = weights_in(path, NAME, "network", "represent_net.")

    def layers(name: str) -> Chain:
        return plain_layers(weights, name, "relu")

    representation = layers("represent_net.net")
    state, reward = layers("dynamics_net.transition_net"), layers("dynamics_net.reward_net")
    policy, value = layers("prediction_net.policy_net"), layers("prediction_net.value_net")
    weights.done()
    if value.layers[-1].bias.size == 1:
        raise weights.foreign("its value is a single number, as for its two-player games")
    actions = policy.layers[-1].bias.size
    return ForeignAgent(
        Representation(representation, _scaled),
        Dynamics(state, reward, actions, _scaled),
        Predictor(policy, value),
        whole_bins(value.layers[-1].bias.size),
        whole_bins(reward.layers[-1].bias.size),
        NAME,
        representation.layers[0].weight.shape[0],
        actions,
    ).check(spec)


def history(environment: Environment, observations: int = 4) -> WithHistory:
    """An environment as these agents see it; the package's own default is 4 observations."""
    actions = environment.spec.num_actions
    return WithHistory(
        environment,
        observations,
        actions="led",
        encode=lambda action: (action + 1) / actions,
        padding="first",
    )


def _scaled(z: Float[Array, "D"]) -> Float[Array, "D"]:
    """To [0, 1] by minimum and maximum."""
    low, high = jnp.min(z), jnp.max(z)
    return (z - low) / (high - low + 1e-8)
