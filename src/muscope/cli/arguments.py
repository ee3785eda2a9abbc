"""What several commands read of their arguments."""

from __future__ import annotations

import dataclasses
from typing import Any

from muscope.config import Config
from muscope.config.base import from_dict
from muscope.errors import ConfigError
from muscope.experiments import registry
from muscope.learning.terms import registry as terms


def experiments(given: Any, arguments: list[str]) -> dict[str, Any]:
    """Settings of all experiments that have any, those of users' figures named in the arguments
    included.
    """
    names(value_of("--figures", arguments) or "all")
    return {
        name: from_dict(given.get(name, {}), experiment.settings, name)
        for name, experiment in registry.everything().items()
        if dataclasses.fields(experiment.settings)
    }


def auxiliary_losses(config: Config, arguments: list[str]) -> dict[str, Any]:
    """Settings of all auxiliary losses by the prefix of their flags, users' own that the arguments
    or the config name included.
    """
    named = values_of("--loss.terms", arguments)
    known = terms.known(config.loss.terms if named is None else named)
    return {
        f"{terms.SECTION}.{name}": terms.settings_of(term, config.terms)
        for name, term in known.items()
    }


def names(figures: str) -> list[str] | None:
    """What ``--figures`` asks for, registered if it is the user's own.

    Raises:
        ConfigError: there is no such figure.

    """
    if figures == "all":
        return None
    return [registry.get(name.strip()).name for name in figures.split(",")]


def take(
    arguments: list[str], command: str, what: str, example: str
) -> tuple[str | None, list[str]]:
    """The leading positional argument and the rest; None if only help is asked for.

    Raises:
        ConfigError: it is missing.

    """
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    if {"-h", "--help"} & set(arguments):
        return None, arguments
    raise ConfigError(f"'{command}' needs {what} first, as in: muscope {command} {example}")


def value_of(flag: str, arguments: list[str]) -> str | None:
    """The value given to ``flag`` on the command line, before it is parsed in full."""
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(flag + "="):
            return argument.split("=", 1)[1]
    return None


def values_of(flag: str, arguments: list[str]) -> list[str] | None:
    """The values given to a flag that takes several; None if it is not there."""
    for i, argument in enumerate(arguments):
        if argument == flag:
            rest = arguments[i + 1 :]
            end = next((n for n, value in enumerate(rest) if value.startswith("-")), len(rest))
            return rest[:end]
        if argument.startswith(flag + "="):
            return [argument.split("=", 1)[1]]
    return None
