"""Named settings per environment.  Where a number comes from stands beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from muscope.config import (
    Config,
    EnvironmentConfig,
    EvaluateConfig,
    LossConfig,
    NetworkConfig,
    ReplayConfig,
    SearchConfig,
    TrainConfig,
    from_dict,
    to_dict,
)
from muscope.envs import registry as environments
from muscope.envs.contract import check_spec
from muscope.envs.host import HostEnvironment
from muscope.errors import ConfigError, nearest
from muscope.presets import breakout, cart_pole, lunar_lander
from muscope.presets.looks import looks

ATARI = "atari:"
USUAL_SEQUENCES = 256  # that Figure 4 scores by default
PRESETS: dict[str, dict[str, Config]] = {
    "cart-pole": cart_pole.PRESETS,
    "lunar-lander": lunar_lander.PRESETS,
    "breakout": breakout.PRESETS,
}


def preset(
    environment: str, name: str = "quick", options: Mapping[str, Any] | None = None
) -> Config:
    """The settings called ``name`` for an environment, with some of its own ``options``.

    Any Atari game has Breakout's.  An environment that brings an attribute ``presets`` (nested
    dicts of settings) has those.  Any other has one, ``quick``: :func:`defaults`.

    Raises:
        ConfigError: no such environment, or no preset of this name.

    """
    chosen = _preset(environment, name, options or {})
    world = chosen.environment
    world = dataclasses.replace(world, options={**world.options, **(options or {})})
    return dataclasses.replace(chosen, environment=world)


def _preset(environment: str, name: str, options: Mapping[str, Any]) -> Config:
    if environment.startswith(ATARI):
        like = preset("breakout", name)
        return dataclasses.replace(
            like, environment=dataclasses.replace(like.environment, name=environment)
        )
    own = environments.presets_of(environment)
    known = sorted({*PRESETS.get(environment, {"quick": None}), *own})
    if name not in known:
        raise ConfigError(f"unknown preset '{name}'.{nearest(name, known)}")
    if name in own:
        return _changed(defaults(environment, options), own[name], name)
    if environment in PRESETS:
        return PRESETS[environment][name]
    return defaults(environment, options)


def has_preset(environment: str) -> bool:
    """Whether somebody has chosen settings for an environment."""
    chosen = environment.startswith(ATARI) or environment in PRESETS
    return chosen or bool(environments.presets_of(environment))


def defaults(environment: str, options: Mapping[str, Any] | None = None) -> Config:
    """Settings for an environment that nobody has tuned: a quick study like Cart Pole's
    strong-quick, with wider supports, and sizes that its actions and its simulator allow.

    Raises:
        ConfigError: no such environment.

    """
    made = environments.make(EnvironmentConfig(environment, options=options or {}))
    check_spec(made)
    spec = made.spec
    every = 1
    while spec.num_actions ** (every + 1) <= USUAL_SEQUENCES and spec.num_actions > 1:
        every += 1
    on_host = isinstance(made, HostEnvironment)
    fewer: dict[str, Any] = {}
    if on_host:  # Its true model is stepped one call at a time.
        fewer = {"simulations": (1, 4, 16), "moves": 200, "episodes": 4}
    return Config(
        preset="quick",
        environment=EnvironmentConfig(environment),
        network=NetworkConfig(
            kind="resnet" if len(spec.observation_shape) == 3 else "mlp",
            value_limit=24.0,
            value_bins=97,
            reward_limit=10.0,
            reward_bins=81,
        ),
        search=SearchConfig(simulations=50, dirichlet_alpha=0.5),
        replay=ReplayConfig(capacity=10_000),
        loss=LossConfig(value_weight=1.0, unroll_weight=4.0, gradient_scale=1.0),
        train=TrainConfig(
            agents=4, steps=8_000, cold_lanes=2, checkpoints=(0, 500, 1_000, 2_000, 4_000, 8_000)
        ),
        evaluate=EvaluateConfig(states=48),
        # Figures 6 and 7 and the decisions look at the last checkpoint, whichever that is.
        experiments=looks(sequences=16, every=min(every, 8), **fewer),
    )


def _changed(config: Config, changes: Mapping[str, Any], name: str) -> Config:
    """A config with some of its settings, nested dicts of JSON's types, replaced."""

    def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        result = dict(old)
        for key, value in new.items():
            inner = old.get(key)
            nested = isinstance(value, Mapping) and isinstance(inner, Mapping)
            result[key] = merged(old[key], value) if nested else value
        return result

    return from_dict(merged(to_dict(config), {**changes, "preset": name}))
