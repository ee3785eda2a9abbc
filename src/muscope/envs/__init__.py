"""Environments: deterministic MDPs that serve as their own true model."""

from __future__ import annotations

from collections.abc import Callable

from muscope.envs.atari import Atari
from muscope.envs.base import (
    Environment,
    Spec,
    Stacked,
    State,
    Trainable,
    Transition,
    training_view,
)
from muscope.envs.cart_pole import CartPole, CartPoleState
from muscope.envs.config import AtariConfig, EnvironmentConfig
from muscope.envs.lunar_lander import LunarLander
from muscope.errors import ConfigError, nearest

ATARI = "atari:"
"""Prefix of the names of Atari games that are not registered."""


def _breakout(config: EnvironmentConfig) -> Environment:
    return Atari("breakout", "breakout", config)


_MAKERS: dict[str, Callable[[], Environment]] = {
    "cart-pole": CartPole,
    "lunar-lander": LunarLander,
}
_WITH_SETTINGS: dict[str, Callable[[EnvironmentConfig], Environment]] = {"breakout": _breakout}


def register(name: str, maker: Callable[[], Environment]) -> None:
    """Make ``name`` known to configs and the command line.

    Raises:
        ConfigError: the name is taken.

    """
    if name in names():
        raise ConfigError(f"environment '{name}' is already registered; choose another name.")
    _MAKERS[name] = maker


def make(which: str | EnvironmentConfig) -> Environment:
    """An environment, by its settings or by its name with default settings.

    Raises:
        ConfigError: no such environment (the message names the nearest), or one that needs a
            package that is not installed.

    """
    config = EnvironmentConfig(which) if isinstance(which, str) else which
    name = config.name
    if name.startswith(ATARI):
        return Atari(name.removeprefix(ATARI), name, config)
    if name in _WITH_SETTINGS:
        return _WITH_SETTINGS[name](config)
    if name not in _MAKERS:
        raise ConfigError(f"unknown environment '{name}'.{nearest(name, names())}")
    return _MAKERS[name]()


def names() -> tuple[str, ...]:
    """All known environments, sorted."""
    return tuple(sorted({*_MAKERS, *_WITH_SETTINGS}))


__all__ = [
    "ATARI",
    "Atari",
    "AtariConfig",
    "CartPole",
    "CartPoleState",
    "Environment",
    "EnvironmentConfig",
    "LunarLander",
    "Spec",
    "Stacked",
    "State",
    "Trainable",
    "Transition",
    "make",
    "names",
    "register",
    "training_view",
]
