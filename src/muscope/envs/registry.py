"""Every environment by its name, made when it is asked for.

A name is one of these:

* a registered name: muscope's own, one given to :func:`register`, or an entry point (group
  ``muscope.environments``) of an installed package;
* a member of a family, ``FAMILY:MEMBER``, such as ``atari:pong`` or ``gymnasium:Acrobot-v1``;
* a user's object, ``my_world.py:KeyDoor`` or ``package.module:Name``.

Behind a name stands an environment, or a *maker* of one: a class or function that is called
without arguments.  A maker with an attribute ``Options``, a
:class:`~muscope.config.base.Settings` class, is called with an object of it, read from
``environment.options``.  An attribute ``presets``, nested dicts of settings by the preset's name,
is found by :func:`presets_of`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from muscope import plugins
from muscope.config.base import Settings, from_dict, to_dict
from muscope.config.environment import EnvironmentConfig
from muscope.envs.base import PARTS, Environment
from muscope.errors import ConfigError, MuscopeError, nearest

GROUP = "muscope.environments"
"""Group of the entry points that packages register environments by."""
FORMS = ("atari:GAME", "gymnasium:ID", "my_world.py:NAME", "package.module:NAME")
"""Names that are not registered one by one."""


class Entry(NamedTuple):
    """What a name stands for."""

    make: Any
    """An environment, a maker, or where to import either from, as ``module:Name``."""
    options: Any = None
    """The maker's settings class, or where to import it from; by default the maker's own
    attribute ``Options``, if it has one."""
    member: str | None = None
    """The name in a family, which the maker gets as its first argument."""

    def maker(self) -> Any:
        """The environment or its maker."""
        return plugins.load(self.make) if isinstance(self.make, str) else self.make

    def options_class(self) -> type[Settings] | None:
        """The settings class of the maker, if it takes any."""
        options = self.options
        if options is None and is_maker(self.maker()):
            options = getattr(self.maker(), "Options", None)
        options = plugins.load(options) if isinstance(options, str) else options
        known = isinstance(options, type) and issubclass(options, Settings)
        return options if known else None


_ENTRIES: dict[str, Entry] = {
    "atari:": Entry("muscope.envs.atari:game", "muscope.envs.atari:AtariConfig"),
    "breakout": Entry("muscope.envs.atari:breakout", "muscope.envs.atari:AtariConfig"),
    "cart-pole": Entry("muscope.envs.cart_pole:CartPole"),
    "gymnasium:": Entry("muscope.envs.gymnasium_env:Gymnasium"),
    "lunar-lander": Entry("muscope.envs.lunar_lander:LunarLander"),
}


def register(name: str, make: Any, options: type[Settings] | None = None) -> None:
    """Make ``name`` known to configs and the command line.

    Args:
        name: with a colon at the end, a family: ``make`` gets the member's name first.
        make: an environment, a maker, or ``module:Name`` to import one from later.
        options: the maker's settings class; by default its attribute ``Options``.

    Raises:
        ConfigError: the name is taken.

    """
    if name in _ENTRIES or name in names():
        raise ConfigError(f"environment '{name}' is already registered; choose another name.")
    _ENTRIES[name] = Entry(make, options)


def names() -> tuple[str, ...]:
    """All registered environments, sorted; families and users' objects are :data:`FORMS`."""
    return tuple(sorted(name for name in {**_installed(), **_ENTRIES} if not name.endswith(":")))


def make(which: str | EnvironmentConfig) -> Environment:
    """An environment, by its settings or by its name with default settings; the same object for
    the same name and options.

    Raises:
        ConfigError: no such environment (the message names the nearest), options that it does not
            take, or one that cannot be made, for instance because a package is missing.

    """
    config = EnvironmentConfig(which) if isinstance(which, str) else which
    return _made(config.name, json.dumps(config.options, sort_keys=True))


def options_class(name: str) -> type[Settings] | None:
    """The class of an environment's own settings; None if it has none."""
    return _entry(name).options_class()


def resolved_options(config: EnvironmentConfig) -> dict[str, Any]:
    """All of an environment's own settings as JSON, those that are not given with their defaults.

    Raises:
        ConfigError: one of them cannot be.

    """
    cls = options_class(config.name)
    given = dict(config.options)
    return to_dict(from_dict(given, cls, "environment.options")) if cls else given


def absolute(name: str) -> str:
    """The same environment's name from any working directory."""
    return plugins.absolute(name) if _entry(name).make == name else name


def label(config: EnvironmentConfig) -> str:
    """How tables call an environment: its registered name, or what a user's own calls itself."""
    own = _entry(config.name).make == config.name
    return make(config).spec.name if own else config.name


def presets_of(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The settings that an environment's maker brings along, by preset; empty if none."""
    return getattr(_entry(name).maker(), "presets", {})


@functools.cache
def _made(name: str, options: str) -> Environment:
    entry, given = _entry(name), json.loads(options)
    maker, cls = entry.maker(), entry.options_class()
    if cls is None and given:
        raise ConfigError(f"'{name}' takes no options; remove environment.options.")
    arguments: list[Any] = [entry.member] if entry.member is not None else []
    if cls is not None:
        arguments.append(from_dict(given, cls, "environment.options"))
    made = _called(name, maker, arguments) if is_maker(maker) else maker
    missing = [part for part in PARTS if not hasattr(made, part)]
    if missing:
        raise ConfigError(
            f"'{name}' gives a {type(made).__name__}, which has no {missing[0]}; an environment "
            f"has {', '.join(PARTS)} (muscope.envs.base)."
        )
    return made


def is_maker(given: Any) -> bool:
    """Whether an object makes environments; an environment may be callable too."""
    return isinstance(given, type) or (callable(given) and not isinstance(given, Environment))


def _called(name: str, maker: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return maker(*arguments)
    except MuscopeError:
        raise
    except Exception as error:
        reason = plugins.told(error)
        raise ConfigError(f"making the environment '{name}' failed: {reason}") from error


def _entry(name: str) -> Entry:
    """The entry of a name, of a family with its member."""
    if name in _ENTRIES:
        return _ENTRIES[name]
    family, colon, member = name.partition(":")
    if colon and family + colon in _ENTRIES:
        return _ENTRIES[family + colon]._replace(member=member)
    if name in _installed():
        return _installed()[name]
    if plugins.is_source(name):
        return Entry(name)
    if name.endswith(".py"):
        raise ConfigError(f"'{name}' is a file; name the class in it too: {name}:MyWorld.")
    raise ConfigError(f"unknown environment '{name}'.{nearest(name, [*names(), *FORMS])}")


@functools.cache
def _installed() -> dict[str, Entry]:
    """Entries of installed packages; none of them is imported yet."""
    points = importlib.metadata.entry_points(group=GROUP)
    return {point.name: Entry(point.value) for point in points}
