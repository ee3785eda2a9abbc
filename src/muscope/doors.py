"""Ways in for agents that muscope did not train: by a name on the command line to a subject."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from muscope import envs, foreign, plugins
from muscope.config import EnvironmentConfig, SearchConfig
from muscope.errors import ConfigError, MuscopeError, nearest
from muscope.subjects import Subject, subject


def forms() -> list[str]:
    """How agents are named, for the help."""
    return [f"{reader}:FILE" for reader in foreign.READERS]


def find(name: str, environment: str = "") -> Subject:
    """The subject that a name stands for.

    Args:
        name: ``my_agent.py:NAME`` or ``package.module:NAME``, a :class:`Subject` or a function
            without arguments that makes one; or ``READER:FILE``, another package's checkpoint.
        environment: to play a checkpoint's agent in another one than its own game.

    Raises:
        ConfigError: there is nothing of that name, or it is no subject.
        CheckpointError: the checkpoint cannot be read.

    """
    reader, colon, file = name.partition(":")
    if colon and reader in foreign.READERS:
        return from_checkpoint(reader, Path(file), environment)
    if not plugins.is_source(name):
        raise ConfigError(
            f"'{name}' names no agent; give my_agent.py:NAME or one of "
            f"{', '.join(forms())}.{nearest(reader, foreign.READERS)}"
        )
    made = plugins.load(name)
    if not isinstance(made, Subject) and callable(made):
        made = _made(name, made)
    if not isinstance(made, Subject):
        raise ConfigError(
            f"{name} gives a {type(made).__name__}; it must be a subject: see muscope.subject."
        )
    return made


def _made(name: str, maker: Callable[[], Any]) -> Any:
    try:
        return maker()
    except MuscopeError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"{name} failed to make a subject: {reason}") from error


def from_checkpoint(reader: str, path: Path, environment: str = "") -> Subject:
    """One agent of another package with its own game, or with another environment.

    The discount, the search's simulations, K and T are the package's for its own game, or
    :func:`muscope.subject`'s defaults where the sizes tell none.

    Args:
        reader: one of :data:`muscope.foreign.READERS`.
        path: the checkpoint.
        environment: the name of another one than the game that the agent's sizes tell.

    Raises:
        ConfigError: the sizes tell none of the package's games and no environment is given, or it
            does not fit.
        CheckpointError: the checkpoint cannot be read.

    """
    spec = envs.make(environment).spec if environment and reader not in foreign.HISTORIES else None
    agent, game, step = foreign.load(reader, path, spec)
    if game is None:
        if not environment:
            raise ConfigError(
                f"{path} does not tell which game of {reader} it is for; name its --environment."
            )
        return subject({step: agent}, environment, name=f"{reader}-{environment}-{step}")
    config = EnvironmentConfig(
        environment or game.plain("environment"),
        game.plain("discount"),
        {} if environment else game.plain("options"),
    )
    world = envs.make(config)
    if reader in foreign.HISTORIES:
        world = plugins.load(foreign.HISTORIES[reader])(world, game.plain("observations"))
    return subject(
        {step: agent},
        world,
        name=f"{reader}-{world.spec.name}-{step}",
        discount=game.plain("discount"),
        unroll=game.plain("unroll"),
        search=SearchConfig(simulations=game.plain("simulations")),
        temperature=game.plain("temperature"),
    )
