"""All experiments by name: the package's own, installed packages', and users'."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points

import jax

from muscope import plugins
from muscope.config import Config
from muscope.errors import ConfigError, FigureError, MuscopeError, nearest
from muscope.experiments.base import Experiment

OWN = (
    "muscope.experiments.online_return:EXPERIMENT",
    "muscope.experiments.own_policy:EXPERIMENT",
    "muscope.experiments.endings:EXPERIMENT",
    "muscope.experiments.every_sequence:EXPERIMENT",
    "muscope.experiments.other_policies:EXPERIMENT",
    "muscope.experiments.equivalence:EXPERIMENT",
    "muscope.experiments.search_course:EXPERIMENT",
    "muscope.experiments.planning:EXPERIMENT",
    "muscope.experiments.decisions:EXPERIMENT",
)
"""In the order in which they run and are shown."""
GROUP = "muscope.experiments"
"""Entry points of installed packages: each an :class:`Experiment`."""

RESERVED = {"claims", *(field.name for field in dataclasses.fields(Config))}
"""Names of other tables, or of other settings on the command line."""

_added: dict[str, Experiment] = {}
_sources: dict[str, str] = {}


@functools.cache
def _known() -> dict[str, Experiment]:
    own = [(source, plugins.load(source)) for source in OWN]
    installed = [(point.value, point.load()) for point in entry_points(group=GROUP)]
    known: dict[str, Experiment] = {}
    for source, experiment in [*own, *installed]:
        known[experiment.name] = _accepted(experiment, source)
        _sources[experiment.name] = source
    return known


def _accepted(experiment: object, source: str) -> Experiment:
    if not isinstance(experiment, Experiment):
        raise ConfigError(
            f"{source} is a {type(experiment).__name__}; it must be a muscope Experiment."
        )
    if not experiment.tables:
        raise ConfigError(
            f"{source} has no tables; give it one, a Schema called '{experiment.name}'."
        )
    if experiment.files[0] != experiment.name:
        raise ConfigError(f"{source}: the first table must be called '{experiment.name}' too.")
    for name in experiment.files:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RESERVED:
            raise ConfigError(f"{source}: a table cannot be called '{name}'; choose another name.")
    if experiment.settings.section not in ("", experiment.name):
        raise ConfigError(f"{source}: its settings' section must be '{experiment.name}'.")
    return experiment


def register(experiment: Experiment) -> None:
    """Make an experiment known to this process.

    Raises:
        ConfigError: another one has its name.

    """
    others = [e for e in everything().values() if e is not experiment]
    for name in experiment.files:
        if any(name in other.files for other in others):
            raise ConfigError(f"there is a table '{name}' already; choose another name.")
    _added[experiment.name] = _accepted(experiment, experiment.name)


def everything() -> dict[str, Experiment]:
    """All that are known, by name, in the order in which they run."""
    return {**_known(), **_added}


def get(name: str) -> Experiment:
    """An experiment by its name, by its figure's number, or by where it stands
    (``my_figure.py:EXPERIMENT``), which registers it.

    Raises:
        ConfigError: there is none, or what stands there is none.

    """
    if plugins.is_source(name):
        experiment = _accepted(plugins.load(name), name)
        register(experiment)
        _sources[experiment.name] = plugins.absolute(name)
        return experiment
    name = f"figure{name}" if name.isdecimal() else name
    if name not in everything():
        raise ConfigError(f"unknown figure '{name}'.{nearest(name, everything())}")
    return everything()[name]


def source(experiment: Experiment) -> str:
    """Where an experiment stands, so that :func:`get` finds it again in another process."""
    return _sources.get(experiment.name, experiment.name)


def is_users(experiment: Experiment) -> bool:
    """Whether an experiment is not muscope's own."""
    return source(experiment) not in OWN


@contextlib.contextmanager
def blamed(experiment: Experiment, function: str) -> Iterator[None]:
    """Tell an error in a function of a user's experiment in one line.

    Errors of muscope's own experiments keep their traceback, and those of compiled programs are
    told by :func:`muscope.host_call.host_errors`.

    Args:
        experiment: whose function runs.
        function: its name, for the message.

    Raises:
        FigureError: it failed; the message has the file and the line.

    """
    try:
        yield
    except (MuscopeError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        if not is_users(experiment):
            raise
        raise FigureError(
            f"figure '{experiment.name}': its {function} failed: {plugins.told(error)}"
        ) from error


def chosen(names: Iterable[str] | None) -> list[Experiment]:
    """The named experiments in order, each once; all by default.

    Raises:
        ConfigError: as :func:`get`.

    """
    if names is None:
        return list(everything().values())
    return list({experiment.name: experiment for experiment in map(get, names)}.values())
