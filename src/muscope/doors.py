"""Ways in for agents that muscope did not train: by a name on the command line to a subject."""

from __future__ import annotations

from pathlib import Path

from muscope import foreign, plugins
from muscope.errors import ConfigError, nearest
from muscope.subjects import Subject


def forms() -> list[str]:
    """How agents are named, for the help."""
    return [f"{reader}:FILE" for reader in foreign.READERS]


def find(name: str, environment: str = "") -> Subject:
    """The subject that a name stands for.

    Args:
        name: ``my_agent.py:NAME`` or ``package.module:NAME``, a :class:`Subject` or a function
            without arguments that makes one; or ``READER:FILE``, another package's checkpoint.
        environment: of a checkpoint that does not tell which one it is for.

    Raises:
        ConfigError: there is nothing of that name, or it is no subject.
        CheckpointError: the checkpoint cannot be read.

    """
    reader, colon, file = name.partition(":")
    if colon and reader in foreign.READERS:
        return foreign.subject(reader, Path(file), environment)
    if not plugins.is_source(name):
        raise ConfigError(
            f"'{name}' names no agent; give my_agent.py:NAME or one of "
            f"{', '.join(forms())}.{nearest(reader, foreign.READERS)}"
        )
    made = plugins.load(name)
    if not isinstance(made, Subject) and callable(made):
        made = made()
    if not isinstance(made, Subject):
        raise ConfigError(
            f"{name} gives a {type(made).__name__}; it must be a subject: see muscope.subject."
        )
    return made
