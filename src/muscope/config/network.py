"""Settings of the networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from muscope.config.base import Bins, Factors, Positive, Settings, Units, within


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """Sizes of the networks.  Supports are in h-transformed units."""

    section = "network"

    kind: str = "mlp"
    """Which network to build: mlp, resnet (of images, rows x columns x channels, from 16 x 16 on),
    or your own (FILE.py:NAME, package.module:NAME)."""
    width: Units = 64
    """Units of every hidden layer; of a resnet, those of its heads."""
    latent: Units = 64
    """Components of an MLP's latent state z."""
    channels: Annotated[int, *within(2, 1_000_000)] = 64
    """Channels of a resnet's latent state z."""
    head_channels: Units = 16
    """Channels to which a resnet's heads reduce the latent state first."""
    standardise: bool = True
    """Whether a resnet sees its observations standardised per pixel, by mean and spread in random
    play before training."""
    input_scale: Factors = ()
    """Factors of the components of an MLP's observation; empty leaves them as they are."""
    value_limit: Positive = 20.0
    """Largest |h(value)| the value head can express; h(360) is about 18.4."""
    value_bins: Bins = 41
    """Bins of the value head on [-value_limit, value_limit]."""
    reward_limit: Positive = 1.0
    """Largest |h(reward)| the reward head can express; h(1) is about 0.42."""
    reward_bins: Bins = 11
    """Bins of the reward head on [-reward_limit, reward_limit]."""
