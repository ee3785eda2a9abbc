"""A whole study: every stage, each skipping what is already there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from muscope import checks, cluster, envs, looking, runtime, stages
from muscope.config import Config, RayConfig
from muscope.errors import RunError
from muscope.experiments import evaluate as cells
from muscope.experiments import plans as asking
from muscope.forecast.forecast import first_guess
from muscope.forecast.text import WORTH_SAYING, summary
from muscope.host_call import host_errors
from muscope.progress import say
from muscope.reporting.scenes import scene_of
from muscope.run_subject import RunSubject
from muscope.stages import StudyRun
from muscope.storage.run import Run


def checked(
    config: Config, out: str | Path, experiments: Sequence[str] | None = None
) -> tuple[RunSubject, list[asking.Plan]]:
    """What :func:`study` will do, after all that it refuses before it writes anything.

    Returns:
        The agents, with all settings written out, and what is asked of them.

    Raises:
        ConfigError: as :func:`muscope.checks.before_writing`.

    """
    runtime.start()
    config = stages.resolved(config)
    planned = RunSubject(Run(Path(out), config))
    plans = asking.plan(planned, config.evaluate, config.experiments, experiments)
    checks.before_writing(config, planned, plans, roomy=Path(out).exists())
    return planned, plans


def study(
    config: Config,
    out: str | Path,
    experiments: Sequence[str] | None = None,
    ray: RayConfig | None = None,
    closely: bool = True,
) -> StudyRun:
    """All stages, each skipping what is already there; a long one begins with what it will cost.

    Args:
        config: all settings.
        out: the run's directory.
        experiments: names; all by default.
        ray: hands the jobs to a Ray cluster; without it this process does them all.
        closely: whether the report shows a film (:func:`muscope.film`), and three states at which
            it looks closely (:func:`muscope.look_at_chosen`) where it has the table ``decisions``.

    Raises:
        JobError: on a cluster some jobs failed; all others are done.

    """
    planned, plans = checked(config, out, experiments)
    config = planned.config
    if planned.run.missing_steps():  # Where nothing is trained, evaluation tells what is left.
        with host_errors():
            cells.announce(planned, plans)
    if not Path(out).exists():
        # A guess: calibrating would delay every quick study by more than it is worth.
        told = first_guess(planned, plans)
        if told.seconds() >= WORTH_SAYING:
            print(f"muscope: {summary(told)}.", file=sys.stderr)
    if ray is None:
        run = stages.train(config, out)
        stages.evaluate(run, experiments, stages.sections(config))
    else:
        run = StudyRun.create(out, config)
        with run.begin():
            cluster.run(run, plans, ray)
    if closely:
        _look_closely(run)
    stages.report(run)
    return run


def _look_closely(run: StudyRun) -> None:
    """What a report shows beside its figures: a film, and three states; what is there is kept."""
    if scene_of(envs.make(run.config.environment)) and not run.film_path.exists():
        stages.film(run)
    if run.table_path("decisions").exists() and not looking.chosen_are_there(run):
        try:
            looking.look_at_chosen(run)
        except RunError as error:  # All agents diverged, or other devices made the table.
            say(f"no single states are looked at: {error}")
