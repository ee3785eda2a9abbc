"""What is asked of experiments: their settings and checkpoints, before any of it is computed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from muscope.config import EvaluateConfig, Settings
from muscope.config.base import from_dict
from muscope.experiments import registry
from muscope.experiments.base import Experiment
from muscope.storage import tables
from muscope.storage.folder import Folder
from muscope.subjects import Subject


class Plan(NamedTuple):
    """One experiment on one subject, before any of it is run."""

    experiment: Experiment
    settings: Settings
    steps: tuple[int, ...]
    """The checkpoints that it examines."""
    evaluate: EvaluateConfig
    """The settings that it shares with others."""


def plan(
    subject: Subject,
    evaluate: EvaluateConfig,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    names: Sequence[str] | None = None,
) -> list[Plan]:
    """What is to be done for the named experiments (all by default).

    Args:
        subject: who is examined.
        evaluate: the settings that experiments share.
        given: by experiment, those of its own settings that are not its defaults.
        names: see :func:`muscope.experiments.registry.get`.

    Raises:
        ConfigError: an unknown experiment, checkpoint or setting, or an impossible one.

    """
    given = given or {}
    plans = [
        planned(subject, experiment, evaluate, given.get(experiment.name, {}))
        for experiment in registry.chosen(names)
    ]
    for each in plans:
        refuse_what_cannot_be(subject, each)
    return plans


def planned(
    subject: Subject, experiment: Experiment, evaluate: EvaluateConfig, given: Mapping[str, Any]
) -> Plan:
    """One experiment's plan, not yet checked against the subject; see :func:`plan`.

    Raises:
        ConfigError: an unknown checkpoint or setting.

    """
    settings = from_dict(given, experiment.settings, experiment.name)
    with registry.blamed(experiment, "steps"):
        steps = experiment.steps(subject, evaluate, settings)
    return Plan(experiment, settings, steps, evaluate)


def refuse_what_cannot_be(subject: Subject, plan: Plan) -> None:
    """Raise for settings that the subject cannot be examined with.

    Raises:
        ConfigError: there are such.

    """
    with registry.blamed(plan.experiment, "check"):
        plan.experiment.check(subject, plan.settings)


class Asked(NamedTuple):
    """The settings that an experiment's tables were made with, as JSON."""

    evaluate: dict[str, Any]
    settings: dict[str, Any]


def asked(folder: Folder, experiment: Experiment) -> Asked | None:
    """What the tables of an experiment were made with; None if they are not all there, or do not
    say.

    Raises:
        RunError: one is damaged.

    """
    paths = [folder.table_path(name) for name in experiment.files]
    written = [tables.told(path).get("asked") for path in paths if path.exists()]
    if len(written) < len(paths) or not all(written):
        return None
    return Asked(**json.loads(written[0] or ""))


def shared(experiment: Experiment, evaluate: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the shared settings that an experiment's rows depend on."""
    names = ("seed", "truth", *(("episodes", "states") if experiment.states else ()))
    return {name: evaluate[name] for name in names}
