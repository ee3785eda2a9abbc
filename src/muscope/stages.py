"""The stages of a study: train, evaluate, report.  They meet on disk; each reruns alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import pyarrow as pa

from muscope import envs, runtime
from muscope.claims import judge_run
from muscope.config import Config
from muscope.envs.host import host_errors
from muscope.errors import RunError
from muscope.experiments import evaluate as stage
from muscope.reporting import film as make_film
from muscope.reporting import report as draw
from muscope.reporting import scene_of
from muscope.storage.run import Run
from muscope.trained import TrainedAgent
from muscope.training import runner
from muscope.training.agent import check
from muscope.training.population import Population


class StudyRun(Run):
    """A run with its agents at hand."""

    def agent(self, index: int = 0, step: int | None = None) -> TrainedAgent:
        """Agent ``index`` at training step ``step`` (the last checkpoint by default).

        Raises:
            RunError: no such agent, or no checkpoint at that step.
            CheckpointError: the checkpoint is damaged.

        """
        steps = self.steps()
        if not steps:
            raise RunError(f"{self.path} has no checkpoints; train it first.")
        step = steps[-1] if step is None else step
        if step not in steps:
            raise RunError(f"{self.path} has no checkpoint at step {step}; it has {list(steps)}.")
        if not 0 <= index < self.config.train.agents:
            raise RunError(f"{self.path} has agents 0..{self.config.train.agents - 1}.")
        agents = stage.load_agents(self, step)
        return TrainedAgent(jax.tree.map(lambda x: x[index], agents), self.config, index, step)


def open_run(path: str | Path) -> StudyRun:
    """The run in a directory.

    Raises:
        RunError: there is none.

    """
    return StudyRun.open(path)


@host_errors()
def train(config: Config, out: str | Path) -> StudyRun:
    """Train, or resume training, in the directory ``out``; does nothing if it is finished.

    Raises:
        ConfigError: the settings cannot be built; nothing is written.
        RunError: ``out`` holds something else or is in use.
        CheckpointError: the saved state is damaged.
        HostError: a simulator on the host failed.

    """
    runtime.prepare()
    check(config)
    if not Path(out).exists():  # A finished run needs no memory.
        Population(config).refuse_what_does_not_fit()
    run = StudyRun.create(out, config)
    runner.train(run)
    return run


@host_errors()
def evaluate(run: Run | str | Path, experiments: Sequence[str] | None = None) -> StudyRun:
    """Fill the tables of the named experiments, all by default; finished cells are skipped."""
    run = _opened(run)
    stage.evaluate(run, experiments)
    return run


def claims(run: Run | str | Path) -> pa.Table:
    """Judge the paper's claims from the run's tables, and write ``tables/claims.parquet``.

    Raises:
        RunError: a table is damaged or was made with other checkpoints or settings.

    """
    return judge_run(_opened(run))


def report(run: Run | str | Path) -> Path:
    """Draw the figures and write the report; returns its path."""
    run = _opened(run)
    draw(run)
    return run.report_path


def film(
    run: Run | str | Path,
    agent: int = 0,
    step: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
) -> Path:
    """Film one episode and what the model believed of it; returns the GIF's path.

    Args:
        run: where the agent is.
        agent: its index.
        step: its training step, the last checkpoint by default.
        out: the file; by default the run's own, which its report shows.
        seed: of the episode.

    Raises:
        ConfigError: nobody has written how the environment looks.
        RunError: no such agent, or no checkpoint at that step.

    """
    run = _opened(run)
    path = run.film_path if out is None else Path(out)
    make_film(run.agent(agent, step), path, seed)
    return path


def study(config: Config, out: str | Path) -> StudyRun:
    """All stages, each skipping what is already there."""
    stage.check(config)
    run = train(config, out)
    evaluate(run)
    if scene_of(envs.make(config.environment)) and not run.film_path.exists():
        film(run)
    report(run)
    return run


def _opened(run: Run | str | Path) -> StudyRun:
    if isinstance(run, StudyRun):
        return run
    return StudyRun.open(run.path if isinstance(run, Run) else run)
