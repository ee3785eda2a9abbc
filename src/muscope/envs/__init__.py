"""Environments: deterministic MDPs that serve as their own true model."""

from __future__ import annotations

from collections.abc import Callable

from muscope.envs.base import Environment, Spec, State, Trainable, Transition, training_view
from muscope.envs.cart_pole import CartPole, CartPoleState
from muscope.errors import ConfigError, nearest

_MAKERS: dict[str, Callable[[], Environment]] = {"cart-pole": CartPole}


def register(name: str, maker: Callable[[], Environment]) -> None:
    """Make ``name`` known to configs and the command line.

    Raises:
        ConfigError: the name is taken.

    """
    if name in _MAKERS:
        raise ConfigError(f"environment '{name}' is already registered; choose another name.")
    _MAKERS[name] = maker


def make(name: str) -> Environment:
    """The environment called ``name``.

    Raises:
        ConfigError: no such environment; the message names the nearest.

    """
    if name not in _MAKERS:
        raise ConfigError(f"unknown environment '{name}'.{nearest(name, _MAKERS)}")
    return _MAKERS[name]()


def names() -> tuple[str, ...]:
    """All known environments, sorted."""
    return tuple(sorted(_MAKERS))


__all__ = [
    "CartPole",
    "CartPoleState",
    "Environment",
    "Spec",
    "State",
    "Trainable",
    "Transition",
    "make",
    "names",
    "register",
    "training_view",
]
