"""One frozen, typed configuration per run, and its JSON form."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import math
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from muscope.agent.networks import NetworkConfig
from muscope.config.environment import EnvironmentConfig
from muscope.errors import ConfigError, nearest
from muscope.experiments.config import EvaluateConfig
from muscope.learning.loss import LossConfig
from muscope.learning.optimiser import OptimiserConfig
from muscope.learning.replay import ReplayConfig
from muscope.search.tree import SearchConfig
from muscope.training.config import TrainConfig


@dataclass(frozen=True)
class Config:
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

    def __post_init__(self) -> None:
        window = self.loss.unroll + self.loss.n_step + 1
        length = self.replay.capacity // self.train.lanes
        if length < window:
            raise ConfigError(
                f"replay.capacity holds {length} rows per lane, fewer than the {window} rows of "
                "one target (loss.unroll + loss.n_step + 1); raise it."
            )
        _refuse_non_finite(self)
        most = max(self.evaluate.search_simulations, *self.evaluate.planning_simulations)
        for name, depth in (
            ("search.simulations", self.search.simulations),
            ("evaluate.planning_horizon", min(self.evaluate.planning_horizon, most)),
        ):
            if -depth * math.log(self.environment.discount) > math.log(1e4):
                raise ConfigError(
                    f"environment.discount ** -{name} exceeds 1e4, beyond which the search's "
                    "float32 backup loses accuracy; raise the discount or lower the other."
                )


def _refuse_non_finite(config: Any, path: str = "") -> None:
    for f in dataclasses.fields(config):
        value, name = getattr(config, f.name), f"{path}{f.name}"
        if dataclasses.is_dataclass(value):
            _refuse_non_finite(value, f"{name}.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name} is {value}; it must be a finite number.")


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON types."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


FREE = ("preset", "evaluate", "environment.options.host", "train.save_seconds")
"""Settings that may change within a run, because its checkpoints do not depend on them."""


def training_dict(config: Config) -> dict[str, Any]:
    """The settings that trained parameters depend on: all but :data:`FREE`."""
    values = to_dict(config)
    for name in FREE:
        *path, last = name.split(".")
        section = values
        for part in path:
            section = section[part]
        section.pop(last, None)
    return values


def trained_alike(written: dict[str, Any], config: Config) -> bool:
    """Whether :func:`training_dict` wrote ``written`` for a config that trains alike; settings
    that have been added since have their defaults.
    """
    try:
        return training_dict(from_dict(written)) == training_dict(config)
    except ConfigError:
        return False


def from_dict(data: Any, cls: type = Config, path: str = "") -> Any:
    """The config that :func:`to_dict` wrote.

    Raises:
        ConfigError: an unknown key (with the nearest known one), or a value of another type.

    """
    if not isinstance(data, dict):
        raise ConfigError(f"'{path or 'config'}' must be a table of settings, not {data!r}.")
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{path}.{key}" if path else key
        if key not in known:
            raise ConfigError(f"unknown setting '{name}'.{nearest(key, known)}")
        values[key] = _convert(value, hints[key], name)
    return cls(**values)


def _convert(value: Any, hint: Any, name: str) -> Any:
    """``value`` as the annotated type; JSON's lists become tuples, its ints floats."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(value, typing.cast(type, hint), name)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise ConfigError(f"'{name}' is {value!r}; it must be one of {list(arguments)}.")
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is not ... and len(value) != len(arguments):
            raise ConfigError(f"'{name}' must have {len(arguments)} values, not {len(value)}.")
        return tuple(_convert(item, arguments[0], name) for item in value)
    if origin is collections.abc.Mapping and isinstance(value, dict):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (
        isinstance(hint, type)
        and isinstance(value, hint)
        and (hint is bool) == (value is True or value is False)
    ):
        return value
    raise ConfigError(f"'{name}' is {value!r}; it must be of type {hint}.")


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Dotted names of the settings in which two configs differ."""
    found: list[str] = []
    for f in dataclasses.fields(a):
        name = f"{path}.{f.name}" if path else f.name
        x, y = getattr(a, f.name), getattr(b, f.name)
        if dataclasses.is_dataclass(x):
            found += differences(x, y, name)
        elif x != y:
            found.append(f"{name} ({x} != {y})")
    return found
