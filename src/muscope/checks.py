"""Everything that is refused before anything is written, in one place.

``train``, ``study``, ``evaluate`` and ``examine`` all begin with :func:`before_writing`.  What it
accepts can be run: nothing it refuses has cost more than seconds, and no file was touched.
"""

from __future__ import annotations

from collections.abc import Sequence

from muscope import envs, runtime
from muscope.agent.check import check_agents
from muscope.config import Config
from muscope.envs.contract import check as check_environment
from muscope.errors import RunError
from muscope.experiments import memory
from muscope.experiments.plans import Plan, refuse_what_cannot_be
from muscope.run_subject import RunSubject
from muscope.subjects import Subject
from muscope.training.agent import check as check_training
from muscope.training.population import Population


def before_writing(
    to_train: Config | None = None,
    subject: Subject | None = None,
    plans: Sequence[Plan] = (),
    *,
    roomy: bool = False,
) -> None:
    """Check everything that is asked for.

    Args:
        to_train: the settings of a training.
        subject: whom the plans examine: the agents to be trained, if there is a training too.
        plans: the examinations that are asked for.
        roomy: training needs no more memory, because it is finished.

    Raises:
        ConfigError: a setting cannot be, the environment, the network or the agents break their
            contract, or something takes more memory than there is.
        RunError: the run that is looked at lacks checkpoints.
        CheckpointError: agents that are looked at cannot be read.

    """
    runtime.start()
    for plan in plans:
        assert subject is not None
        refuse_what_cannot_be(subject, plan)
    if to_train is not None:
        check_environment(envs.make(to_train.environment))
        check_training(to_train)
        if not roomy:
            block = range(to_train.train.block_size)
            Population(to_train, agents=block).refuse_what_does_not_fit()
    elif subject is not None:
        _refuse_unready(subject, plans)
    if subject is not None:
        memory.refuse_what_does_not_fit(subject, plans)


def _refuse_unready(subject: Subject, plans: Sequence[Plan]) -> None:
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
