"""Environments: deterministic MDPs that serve as their own true model.

Everything here is imported when it is first used: making Cart Pole imports no emulator, and a
worker process that steps an emulator imports no JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muscope.config.environment import EnvironmentConfig
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
    from muscope.envs.lunar_lander import LunarLander
    from muscope.envs.registry import make, names, register

__all__ = [
    "Atari",
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

_HOMES = {
    "muscope.config.environment": ("EnvironmentConfig",),
    "muscope.envs.atari": ("Atari",),
    "muscope.envs.cart_pole": ("CartPole", "CartPoleState"),
    "muscope.envs.lunar_lander": ("LunarLander",),
    "muscope.envs.registry": ("make", "names", "register"),
}
_HOME_OF = dict.fromkeys(__all__, "muscope.envs.base") | {
    name: home for home, names_ in _HOMES.items() for name in names_
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)
