"""Other packages' agents: readers of their checkpoints, and what lets them play here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from muscope import plugins
from muscope.agent.base import Agent
from muscope.envs.base import Spec
from muscope.errors import ConfigError, nearest
from muscope.foreign import torch_file
from muscope.foreign.base import ForeignAgent
from muscope.foreign.games import GAMES, Game, Sourced, game_of
from muscope.foreign.torch_agent import TorchAgent, TorchModules
from muscope.foreign.wrappers import Scaled, WithHistory

READERS: dict[str, str] = {
    "lightzero": "muscope.foreign.lightzero:read",
    "michaelnny": "muscope.foreign.michaelnny:read",
    "muzero-general": "muscope.foreign.muzero_general:read",
}
"""Name to reader: ``read(path, spec=None, **arguments) -> ForeignAgent``, one agent without a
leading axis, in the units of its own training."""

HISTORIES: dict[str, str] = {"michaelnny": "muscope.foreign.michaelnny:history"}
"""Name to what wraps an environment for agents that see a history:
``history(environment, observations) -> WithHistory``."""


class Foreign(NamedTuple):
    """An agent of another package, ready to play its game."""

    agent: Agent
    """In the game's own units of reward."""
    game: Game | None
    """The package's own game that it was trained on, as far as its sizes tell."""
    step: int
    """Training steps that it has seen; 1 if the file does not say."""


COUNTERS = ("training_step", "train_steps", "last_iter")
"""What the packages call the number of training steps in their files."""


def reader(name: str) -> Callable[..., ForeignAgent]:
    """The reader of a package's checkpoints.

    Raises:
        ConfigError: there is none of that name.

    """
    if name not in READERS:
        raise ConfigError(f"no reader for agents of '{name}'.{nearest(name, READERS)}")
    return plugins.load(READERS[name])


def load(name: str, path: str | Path, spec: Spec | None = None, **arguments: Any) -> Foreign:
    """An agent from a checkpoint, and the game that goes with it.

    Args:
        name: one of :data:`READERS`.
        path: the checkpoint.
        spec: of the environment it shall play, wrapped for a history where the agent sees one;
            None checks nothing.
        arguments: of the reader; ``reward_scale`` besides, by which the agent's rewards and values
            are multiplied, by default the game's.

    Raises:
        CheckpointError: the file cannot be read.
        ConfigError: no such reader, or an agent that does not fit.

    """
    scale = arguments.pop("reward_scale", None)
    agent = reader(name)(path, spec, **arguments)
    game = game_of(agent)
    if scale is None:
        scale = game.reward_scale.value if game else 1.0
    return Foreign(agent if scale == 1.0 else Scaled(agent, scale), game, _steps(path))


def _steps(path: str | Path) -> int:
    content = torch_file.read(path)
    counted = [content[name] for name in COUNTERS if isinstance(content.get(name), int)]
    return max([1, *counted])


__all__ = [
    "GAMES",
    "HISTORIES",
    "READERS",
    "Foreign",
    "ForeignAgent",
    "Game",
    "Scaled",
    "Sourced",
    "TorchAgent",
    "TorchModules",
    "WithHistory",
    "game_of",
    "load",
    "reader",
]
