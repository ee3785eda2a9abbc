"""A study's stages with their counts and seconds, its memory, disk and jobs."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax

from muscope import runtime
from muscope.config import Config
from muscope.envs.registry import label
from muscope.experiments import cost, memory, registry
from muscope.experiments.lab import group_size, groups
from muscope.experiments.plans import Plan
from muscope.experiments.plans import plan as plans_of
from muscope.forecast import devices
from muscope.forecast.calibrate import SECONDS, calibrated
from muscope.forecast.rates import Compiling, Rates, added
from muscope.room import Part, nbytes, total
from muscope.run_subject import RunSubject
from muscope.storage.run import Run
from muscope.training import work as training
from muscope.training.population import Population
from muscope.work import Kind, Work
from muscope.work import total as times

CELL = 19_000
"""Bytes of a cell and of its share of a table, about."""
DRAWN = 7e6
"""Bytes of figures, film and report, about."""
REST = 30.0
"""Seconds of starting, saving, drawing figures and film, and writing the report, about."""


class Job(NamedTuple):
    """What runs as a whole: a block's training, or an experiment's cells of one checkpoint for the
    agents of one call.
    """

    stage: str
    agents: range
    step: int | None
    """The checkpoint; None for training."""


@dataclass(frozen=True)
class Stage:
    """Training, an experiment, or what experiments share."""

    name: str
    works: list[Work] | None
    """Of one agent and checkpoint; None if nobody has counted."""
    jobs: tuple[Job, ...]
    seconds: float
    """Expected: untrained agents play as long as random ones, all others to the time limit."""
    most: float
    """All games played to the time limit."""
    first_use: Compiling
    """Of its programs that no stage before it has used."""
    shared: bool = False
    """Whether it is no job of its own: the first job of some agents that needs it does it."""

    @property
    def cells(self) -> int:
        """Agents times checkpoints."""
        return sum(len(job.agents) for job in self.jobs)

    def count(self, kind: Kind) -> int | None:
        """How often a kind of work is done in all, at most."""
        return None if self.works is None else self.cells * times(self.works, kind)


@dataclass(frozen=True)
class Forecast:
    """What a study will cost.

    Attributes:
        config: of the run.
        rates: what seconds come from.
        stages: in order.
        memory: of each task, its parts.
        disk: what is written, in parts.

    """

    config: Config
    rates: Rates
    stages: tuple[Stage, ...]
    memory: tuple[tuple[str, list[Part]], ...]
    disk: tuple[Part, ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Experiments that do not say what they compute."""
        return tuple(stage.name for stage in self.stages if stage.works is None)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All of them, in order."""
        return tuple(job for stage in self.stages for job in stage.jobs if not stage.shared)

    @property
    def first_use(self) -> Compiling:
        """Seconds of tracing and of compiling all programs."""
        return added([stage.first_use for stage in self.stages])

    def seconds(self, *, most: bool = False, cached: bool = False) -> float:
        """Of the whole study.

        Args:
            most: all games are played to the time limit.
            cached: the compilation cache holds all programs.

        """
        running = math.fsum(stage.most if most else stage.seconds for stage in self.stages)
        first = self.first_use
        return running + first.tracing + (0.0 if cached else first.compiling) + REST


def forecast(
    config: Config,
    experiments: Sequence[str] | None = None,
    gpu: str = "",
    calibration: int = SECONDS,
    out: str | Path | None = None,
) -> Forecast:
    """What a study will cost; see :func:`muscope.stages.plan`.

    Args:
        config: with its environment's and experiments' settings written out.
        experiments: as there.
        gpu: as there.
        calibration: as there.
        out: as there.

    """
    runtime.start()
    nowhere = Path(tempfile.gettempdir()) / uuid.uuid4().hex
    subject = RunSubject(Run(nowhere if out is None else Path(out), config))
    plans = plans_of(subject, config.evaluate, config.experiments, experiments)
    return _forecast(subject, plans, _rates(config, gpu, calibration), gpu=bool(gpu))


def first_guess(subject: RunSubject, plans: Sequence[Plan]) -> Forecast:
    """The same without calibration, in about a second."""
    return _forecast(subject, plans, _rates(subject.config, "", 0), gpu=False)


def _rates(config: Config, gpu: str, calibration: int) -> Rates:
    if gpu:
        return devices.on_gpu(config, devices.gpu(gpu))
    if calibration:
        return calibrated(config, calibration)
    size = group_size(config.train.agents, config.evaluate.agents_at_once)
    return devices.at_a_guess(config, runtime.agents_mesh(size).size)


def _forecast(subject: RunSubject, plans: Sequence[Plan], rates: Rates, *, gpu: bool) -> Forecast:
    config = subject.config
    stages = [_training(subject, rates, gpu), *_experiments(subject, plans, rates, gpu)]
    block = max(map(len, subject.blocks))
    population = Population(config, agents=range(block))
    needs = dict([("training", population.memory()), *memory.needs(subject, plans)])
    return Forecast(
        config, rates, tuple(stages), tuple(needs.items()), tuple(_disk(subject, population, plans))
    )


def _training(subject: RunSubject, rates: Rates, gpu: bool) -> Stage:
    works = training.of_agent(subject.config)
    seconds = 0.0
    for block in subject.blocks:
        here = 1 if gpu else runtime.agents_mesh(runtime.filled_up(len(block))).size
        seconds += dataclasses.replace(rates, devices=here).seconds(works, len(block))
    sizes = {len(block) for block in subject.blocks}
    first_use = added([rates.compiling(works)] * len(sizes))
    jobs = tuple(Job("training", block, None) for block in subject.blocks)
    return Stage("training", works, jobs, seconds, seconds, first_use)


def _experiments(
    subject: RunSubject, plans: Sequence[Plan], rates: Rates, gpu: bool
) -> Iterator[Stage]:
    """The on-policy episodes, where experiments need any, and the experiments."""
    wanted = sorted({step for plan in plans if plan.experiment.states for step in plan.steps})
    asked: list[tuple[str, list[Work] | None, Sequence[int]]] = []
    if wanted:
        played = cost.on_policy(subject, subject.config.evaluate)
        asked.append((cost.SHARED, played, wanted))
    for plan in plans:
        give = plan.experiment.work
        given = None
        if give is not None:
            with registry.blamed(plan.experiment, "work"):
                given = give(subject, plan.evaluate, plan.settings)
        asked.append((plan.experiment.name, given, plan.steps))
    together = groups(
        subject.blocks,
        subject.config.evaluate.agents_at_once,
        _on_one_gpu if gpu else group_size,
    )
    seen: set[str] = set()
    for name, works, steps in asked:
        named = [w._replace(program=w.program or name) for w in works or ()]
        fresh = [work for work in named if work.program not in seen]
        seen |= {work.program for work in named}
        sizes = [size for _, size in together]
        expected = math.fsum(
            rates.seconds(named, size, rates.longest_random if step == 0 else 0)
            for size in sizes
            for step in steps
        )
        most = math.fsum(rates.seconds(named, size) for size in sizes for _ in steps)
        jobs = tuple(Job(name, agents, step) for agents, _ in together for step in steps)
        counted = None if works is None else named
        first_use = rates.compiling(fresh)
        yield Stage(name, counted, jobs, expected, most, first_use, shared=name == cost.SHARED)


def _on_one_gpu(agents: int, wanted: int) -> int:
    return min(wanted or agents, agents)


def _disk(subject: RunSubject, population: Population, plans: Sequence[Plan]) -> Iterator[Part]:
    config = subject.config
    described = jax.eval_shape(population.program.initial, jax.random.key(0))
    checkpoints = config.train.agents * len(config.train.schedule)
    cells = sum(len(plan.experiment.files) * len(plan.steps) for plan in plans)
    state = population.size * nbytes(described)
    yield Part("checkpoints", checkpoints * nbytes(described.average), "train.checkpoints")
    yield Part("the state, until a block is trained", state, "replay.capacity")
    yield Part("cells and tables", config.train.agents * cells * CELL, "--figures")
    yield Part("figures, film and report", int(DRAWN), "--figures")


def peak(told: Forecast) -> tuple[str, int]:
    """The task that takes most memory, and its bytes."""
    return max(((name, total(parts)) for name, parts in told.memory), key=lambda pair: pair[1])


def title(config: Config) -> str:
    """Whose forecast it is."""
    return f"{label(config.environment)}, preset {config.preset}"
