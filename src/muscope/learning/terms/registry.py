"""All auxiliary losses by name: the package's own, and users'."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from muscope import plugins
from muscope.config import Config
from muscope.config.base import from_dict
from muscope.errors import ConfigError, nearest
from muscope.learning.terms.base import Chosen, Term, TermSettings

OWN = (
    "muscope.learning.terms.consistency:TERM",
    "muscope.learning.terms.distance:TERM",
    "muscope.learning.terms.reconstruction:TERM",
)
SECTION = "terms"
"""Where their settings stand in a config and on the command line."""


@functools.cache
def own() -> dict[str, Term]:
    """The package's own, by name."""
    return {term.name: term for term in map(plugins.load, OWN)}


def get(name: str) -> Term:
    """A term by its name, or by where it stands (``my_loss.py:TERM``).

    Raises:
        ConfigError: there is none, or what stands there is none.

    """
    if name in own():
        return own()[name]
    if plugins.is_source(name):
        return _accepted(plugins.load(name), name)
    raise ConfigError(f"unknown auxiliary loss '{name}'.{nearest(name, own())}")


def _accepted(term: object, source: str) -> Term:
    if not isinstance(term, Term):
        raise ConfigError(
            f"{source} is a {type(term).__name__}; it must be a muscope.learning.terms.Term."
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", term.name):
        raise ConfigError(f"{source}: a term cannot be called '{term.name}'; choose another name.")
    if term.name in own():
        raise ConfigError(f"{source}: muscope has a term '{term.name}'; choose another name.")
    kind = term.settings
    if not (isinstance(kind, type) and issubclass(kind, TermSettings)):
        raise ConfigError(
            f"{source}: its settings must be a class derived from "
            "muscope.learning.terms.TermSettings."
        )
    if kind is not TermSettings and kind.section != f"{SECTION}.{term.name}":
        raise ConfigError(f"{source}: its settings' section must be '{SECTION}.{term.name}'.")
    return term


def known(names: Sequence[str] = ()) -> dict[str, Term]:
    """Our own terms and the named ones, by name.

    Raises:
        ConfigError: as :func:`get`.

    """
    return {**own(), **{term.name: term for term in map(get, names)}}


def settings_of(term: Term, given: Mapping[str, Mapping[str, Any]]) -> TermSettings:
    """A term's settings among those of a config.

    Raises:
        ConfigError: one is unknown or impossible.

    """
    return from_dict(given.get(term.name, {}), term.settings, f"{SECTION}.{term.name}")


def chosen(config: Config) -> tuple[Chosen, ...]:
    """The terms that ``loss.terms`` names, with their settings.

    Raises:
        ConfigError: as :func:`get`; one is named twice; or there are settings of one that is not
            named.

    """
    names, given = config.loss.terms, config.terms
    found = [Chosen(term := get(name), settings_of(term, given), absolute(name)) for name in names]
    there = [each.name for each in found]
    for name in there:
        if there.count(name) > 1:
            raise ConfigError(f"loss.terms names '{name}' twice; name it once.")
    for name in given:
        if name not in there:
            raise ConfigError(
                f"there are settings {SECTION}.{name}, but loss.terms does not name "
                f"'{name}'; add it there, or drop them."
            )
    return tuple(found)


def active(config: Config) -> tuple[Chosen, ...]:
    """Those of :func:`chosen` that have a weight; the others change nothing, not even a bit."""
    return tuple(each for each in chosen(config) if each.settings.weight > 0)


def absolute(name: str) -> str:
    """The same term's name from any working directory."""
    return plugins.absolute(name) if name not in own() and plugins.is_source(name) else name
