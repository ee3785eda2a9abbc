"""Everything that is refused before anything is written, in one place.

``train``, ``study``, ``evaluate`` and ``examine`` all begin with :func:`before_writing`.  What it
accepts can be run: nothing it refuses has cost more than seconds, and no file was touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from muscope import envs, runtime
from muscope.agent.check import check_agents
from muscope.config import Config, EvaluateConfig
from muscope.envs.contract import check as check_environment
from muscope.errors import ConfigError, RunError, nearest
from muscope.experiments import evaluate as cells
from muscope.experiments import memory, registry
from muscope.subjects import RunSubject, Subject
from muscope.training.agent import check as check_training
from muscope.training.population import Population


class Look(NamedTuple):
    """An examination that is asked for."""

    subject: Subject
    evaluate: EvaluateConfig
    settings: Mapping[str, Mapping[str, Any]]
    """By experiment, those of its own settings that are not its defaults."""
    names: Sequence[str] | None
    """Of the experiments; all by default."""


def before_writing(
    to_train: Config | None = None, look: Look | None = None, *, roomy: bool = False
) -> list[cells.Plan]:
    """Check everything that is asked for.

    Args:
        to_train: the settings of a training.
        look: an examination, of the trained agents if there is a training too.
        roomy: training needs no more memory, because it is finished.

    Returns:
        What the look is to do; nothing without one.

    Raises:
        ConfigError: a setting cannot be, the environment, the network or the agents break their
            contract, or something takes more memory than there is.
        RunError: the run that is looked at lacks checkpoints.
        CheckpointError: agents that are looked at cannot be read.

    """
    runtime.prepare()
    plans: list[cells.Plan] = []
    if look is not None:
        plans = _planned(look)
    if to_train is not None:
        check_environment(envs.make(to_train.environment))
        check_training(to_train)
        if not roomy:
            Population(to_train).refuse_what_does_not_fit()
    elif look is not None:
        _refuse_unready(look.subject, plans)
    if look is not None:
        asked = [(plan.experiment, plan.settings) for plan in plans]
        memory.refuse_what_does_not_fit(look.subject, look.evaluate, asked)
    return plans


def _planned(look: Look) -> list[cells.Plan]:
    known = registry.everything()
    if not isinstance(look.subject, RunSubject):  # A run keeps those of others' figures too.
        for name in look.settings:
            if name not in known:
                raise ConfigError(f"unknown figure '{name}'.{nearest(name, known)}")
    return cells.plan(look.subject, look.evaluate, look.settings, look.names)


def _refuse_unready(subject: Subject, plans: Sequence[cells.Plan]) -> None:
    """Raise if the agents that are to be examined are not there, or are no agents."""
    steps = sorted({step for plan in plans for step in plan.steps})
    if isinstance(subject, RunSubject):
        missing = sorted(set(steps) - set(subject.run.steps()))
        if missing:
            raise RunError(
                f"{subject.run.path} has no checkpoint for training steps {missing}; "
                "finish 'muscope train' first."
            )
        return
    check_environment(subject.environment)
    for step in steps:
        check_agents(subject.load(step), subject.environment)
