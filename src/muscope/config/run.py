"""A run's whole config, and what of it its parts depend on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from muscope.config import base
from muscope.config.base import Settings, plain, to_dict
from muscope.config.environment import EnvironmentConfig
from muscope.config.evaluate import EvaluateConfig
from muscope.config.learning import LossConfig, OptimiserConfig, ReplayConfig
from muscope.config.network import NetworkConfig
from muscope.config.search import SearchConfig
from muscope.config.train import TrainConfig
from muscope.errors import ConfigError

MOST_UNDISCOUNT = 1e4
"""gamma^-depth beyond which the search's float32 backup loses accuracy."""


@dataclass(frozen=True)
class Config(Settings):
    """Everything that determines a run's result."""

    preset: Annotated[str, tyro.conf.Suppress] = "custom"
    """The preset these settings started from; a label only."""
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    experiments: Annotated[Mapping[str, Mapping[str, Any]], tyro.conf.Suppress] = field(
        default_factory=dict, hash=False
    )
    """By experiment, those of its own settings that are not its defaults; its own class reads
    them when it runs."""
    terms: Annotated[Mapping[str, Mapping[str, Any]], tyro.conf.Suppress] = field(
        default_factory=dict, hash=False
    )
    """The same of the auxiliary losses that ``loss.terms`` names."""

    def check(self) -> None:
        for name in ("experiments", "terms"):
            object.__setattr__(self, name, plain(getattr(self, name), name))
        window = self.loss.unroll + self.loss.n_step + 1
        length = self.replay.capacity // self.train.lanes
        if length < window:
            raise ConfigError(
                f"replay.capacity holds {length} rows per lane, fewer than the {window} rows of "
                "one target (loss.unroll + loss.n_step + 1); raise it."
            )
        refuse_undiscount("search.simulations", self.search.simulations, self.environment.discount)


def refuse_undiscount(name: str, depth: int, discount: float) -> None:
    """Refuse searches so deep that their float32 backup would lose accuracy.

    Args:
        name: of the setting that bounds the depth, for the message.
        depth: of the deepest node.
        discount: gamma.

    Raises:
        ConfigError: discount ** -depth is beyond :data:`MOST_UNDISCOUNT`.

    """
    if -depth * math.log(discount) > math.log(MOST_UNDISCOUNT):
        raise ConfigError(
            f"environment.discount ** -{name} exceeds 1e4, beyond which the search's "
            "float32 backup loses accuracy; raise the discount or lower the other."
        )


FREE = (
    *("preset", "evaluate", "experiments", "environment.options.host"),
    *("train.save_seconds", "train.agents", "train.block"),
)
"""Settings that may change within a run, because its checkpoints do not depend on them."""
MADE_OF = ("train.checkpoints", "train.rounds_per_call")
"""Settings that trained parameters depend on through the rounds of a call alone."""


def training_dict(config: Config) -> dict[str, Any]:
    """The settings that trained parameters depend on: all but :data:`FREE`."""
    values = to_dict(config)
    for name in FREE:
        _drop(values, name)
    return values


def _drop(values: dict[str, Any], name: str) -> None:
    *path, last = name.split(".")
    for part in path:
        values = values[part]
    values.pop(last, None)


def is_steady(config: Config) -> bool:
    """Whether nothing in training follows how long it is to be, so that it can be prolonged."""
    return (
        config.optimiser.final_fraction == 1.0
        and len(set(config.train.temperatures)) == 1
        and (config.replay.priority_exponent == 0.0 or config.replay.importance_exponent == 1.0)
    )


def made_of(config: Config) -> dict[str, Any]:
    """What a run must have in common with its checkpoints: :func:`training_dict`, with what
    follows from a call's rounds instead of the settings that they follow from, and without the
    number of steps if nothing else depends on it.
    """
    values = training_dict(config)
    for name in MADE_OF:
        _drop(values, name)
    values["train"]["rounds of a call"] = config.train.call_rounds
    if is_steady(config):
        _drop(values, "train.steps")
    return values


def trained_alike(written: dict[str, Any], config: Config) -> bool:
    """Whether :func:`training_dict` wrote ``written`` for a config that trains alike; settings
    that have been added since have their defaults.
    """
    try:
        return made_of(from_dict(written)) == made_of(config)
    except ConfigError:
        return False


def from_dict(data: Any) -> Config:
    """The config that :func:`muscope.config.to_dict` wrote.

    Raises:
        ConfigError: as :func:`muscope.config.base.from_dict`.

    """
    return base.from_dict(data, Config)
