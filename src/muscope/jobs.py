"""A study as a list of independent jobs, known before any of them runs.

A job trains one block of agents, examines some agents of one block at one checkpoint, or puts a
table together.  Each is a pure function of what lies on disk, writes its own files atomically, and
does nothing if they are there.  Ray (:mod:`muscope.cluster`) works through the list on many
machines; in one process :func:`muscope.training.runner.train` and
:func:`muscope.experiments.evaluate.fill` go through the same blocks and pieces in the same order.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from muscope.config import EvaluateConfig, to_dict
from muscope.config.base import from_dict
from muscope.errors import RunError, nearest
from muscope.experiments import registry
from muscope.experiments.evaluate import Filling, Piece, pieces_of
from muscope.experiments.plans import Plan
from muscope.run_subject import RunSubject
from muscope.storage import json_file
from muscope.storage.checkpoint import write_atomically
from muscope.storage.run import Run
from muscope.training import runner

FILE = "jobs.json"
"""In a run's directory: what its jobs are asked for, so that each can be run alone."""


class Job(NamedTuple):
    """One piece of work.  Its name says all of it."""

    name: str
    needs: tuple[str, ...] = ()
    """Names of the jobs that must be done before."""
    block: int = -1
    """Number of the block that it trains or looks at; -1 for all."""
    piece: Piece | None = None
    """What it examines, if it does."""
    experiment: str = ""
    """Whose tables it puts together, if it does."""


def jobs(run: Run, plans: Sequence[Plan]) -> list[Job]:
    """All jobs of a study in an order in which they can be run one after the other."""
    blocks = run.blocks()
    training = [Job(f"train-{_span(block.agents)}", (), i) for i, block in enumerate(blocks)]
    found, pieces = list(training), []
    for piece in pieces_of(RunSubject(run), plans):
        number = next(i for i, block in enumerate(blocks) if piece.agents[0] in block.agents)
        name = f"{piece.experiment}-{piece.step:08d}-{_span(piece.agents)}"
        pieces.append(Job(name, (training[number].name,), number, piece))
    found += pieces
    for plan in plans:
        name = plan.experiment.name
        needs = tuple(job.name for job in pieces if job.piece and job.piece.experiment == name)
        found.append(Job(f"gather-{name}", needs, experiment=name))
    return found


def _span(agents: range) -> str:
    return f"{agents.start:04d}-{agents.stop - 1:04d}"


def request(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Plans as JSON, from which any process makes them again."""
    return [
        {
            "experiment": registry.source(plan.experiment),
            "settings": to_dict(plan.settings),
            "steps": list(plan.steps),
            "evaluate": to_dict(plan.evaluate),
        }
        for plan in plans
    ]


def plans_of(asked: Sequence[dict[str, Any]]) -> list[Plan]:
    """The plans that :func:`request` wrote down; users' own experiments are imported.

    Raises:
        ConfigError: an experiment is gone, or a setting cannot be.

    """
    plans = []
    for of_one in asked:
        experiment = registry.get(of_one["experiment"])
        settings = from_dict(of_one["settings"], experiment.settings, experiment.name)
        evaluate = from_dict(of_one["evaluate"], EvaluateConfig, "evaluate")
        plans.append(Plan(experiment, settings, tuple(of_one["steps"]), evaluate))
    return plans


def write_down(run: Run, plans: Sequence[Plan]) -> None:
    """Keep what the jobs are asked for, for :func:`execute_by_name`."""
    write_atomically(run.path / FILE, json_file.encoded({"plans": request(plans)}))


def read(run: Run) -> list[Plan]:
    """What :func:`write_down` kept.

    Raises:
        RunError: nothing was, or the file is damaged.

    """
    if not (run.path / FILE).is_file():
        raise RunError(f"{run.path} has no {FILE}; 'muscope study ... --runner ray' writes it.")
    return plans_of(json_file.read(run.path / FILE)["plans"])


def execute(run: Run, plans: Sequence[Plan], job: Job) -> None:
    """Do one job.

    Raises:
        MuscopeError: it cannot be done; see :func:`muscope.training.runner.train` and
            :class:`muscope.experiments.evaluate.Filling`.

    """
    if job.piece is not None:
        _filling(run.path, job.block, json.dumps(request(plans))).examine(job.piece)
    elif job.experiment:
        chosen = [plan for plan in plans if plan.experiment.name == job.experiment]
        Filling(RunSubject(run), run, chosen).gather()
    else:
        runner.train(run, [job.block])


@functools.lru_cache(maxsize=1)
def _filling(path: Path, block: int, asked: str) -> Filling:
    """A block's cells; jobs that follow each other share programs and on-policy states."""
    run = Run.open(path)
    agents = run.blocks()[block].agents
    return Filling(RunSubject(run), run, plans_of(json.loads(asked)), [agents])


def execute_by_name(path: Path, name: str) -> None:
    """Do one job of a study that was begun.

    Raises:
        RunError: there is no such study or job.

    """
    run = Run.open(path)
    plans = read(run)
    known = {job.name: job for job in jobs(run, plans)}
    if name not in known:
        raise RunError(f"{path} has no job '{name}'.{nearest(name, known)}")
    execute(run, plans, known[name])
