"""The stages of a study: train, evaluate, report.  They meet on disk; each reruns alone."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from muscope import checks, display, jobs, runtime
from muscope.agent import networks
from muscope.config import Config, EvaluateConfig, differences, to_dict
from muscope.config.base import from_dict
from muscope.envs.registry import absolute, resolved_options
from muscope.errors import ConfigError, RunError, nearest
from muscope.experiments import evaluate as cells
from muscope.experiments import plans as asking
from muscope.experiments import registry
from muscope.experiments.base import Experiment
from muscope.forecast.calibrate import SECONDS
from muscope.forecast.forecast import Forecast, forecast
from muscope.host_call import host_errors
from muscope.learning.terms import registry as terms
from muscope.memory import said_if_short
from muscope.reporting.boards import write as write_boards
from muscope.reporting.film import film as draw_film
from muscope.reporting.page import experiments_of, report_together
from muscope.reporting.page import judge as judge_folder
from muscope.reporting.page import report as write_report
from muscope.run_subject import RunSubject
from muscope.storage.folder import EXAMINATION, Folder
from muscope.storage.merge import merge as merge_runs
from muscope.storage.run import Run
from muscope.trained import TrainedAgent
from muscope.training import runner

Sections = Mapping[str, Mapping[str, Any]]
"""Settings by section: ``evaluate``, or an experiment's name."""


class StudyRun(Run):
    """A run with its agents at hand."""

    @property
    def subject(self) -> RunSubject:
        """The run's agents, as experiments see them."""
        return RunSubject(self)

    def _repr_html_(self) -> str:
        config = self.config
        rows: list[list[object]] = [
            ["environment", config.environment.name],
            ["preset", config.preset],
            ["agents", config.train.agents],
            ["training steps", f"{config.train.steps:,}"],
            ["checkpoints", ", ".join(f"{step:,}" for step in self.steps()) or "none yet"],
            ["tables", ", ".join(self.tables()) or "none yet"],
            ["report", self.report_path if self.report_path.exists() else "none yet"],
        ]
        return display.table(f"run {self.path}", [], rows)

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
        return TrainedAgent(self.subject, index, step)


def open_run(path: str | Path) -> StudyRun:
    """The run in a directory.

    Raises:
        RunError: there is none.

    """
    return StudyRun.open(path)


def resolved(config: Config) -> Config:
    """A config whose environment's, experiments' and auxiliary losses' own settings are all written
    out.

    Raises:
        ConfigError: one of them cannot be; those of experiments that are not known here are kept
            as they are.

    """
    environment = config.environment
    options, name = resolved_options(environment), absolute(environment.name)
    kind = networks.absolute(config.network.kind)
    experiments = dict(config.experiments)
    for experiment in registry.everything().values():
        given = experiments.get(experiment.name, {})
        experiments[experiment.name] = to_dict(
            from_dict(given, experiment.settings, experiment.name)
        )
    added = terms.chosen(config)
    return dataclasses.replace(
        config,
        environment=dataclasses.replace(environment, name=name, options=options),
        network=dataclasses.replace(config.network, kind=kind),
        loss=dataclasses.replace(config.loss, terms=tuple(term.source for term in added)),
        experiments=experiments,
        terms={term.name: to_dict(term.settings) for term in added},
    )


@said_if_short(
    "training",
    "lower train.agents, replay.capacity, train.lanes, train.batch_size or search.simulations",
)
@host_errors()
def train(config: Config, out: str | Path, blocks: Sequence[int] | None = None) -> StudyRun:
    """Train, or resume training, in the directory ``out``; does nothing if it is finished.

    A run that is there is given more agents or further checkpoints if the config asks for them.

    Args:
        config: all settings.
        out: the run's directory.
        blocks: numbers of the blocks to train; all by default.  Other processes may train others
            at the same time, in this directory or in one of their own (see :func:`merge`).

    Raises:
        ConfigError: the settings cannot be built, or the environment breaks its contract; nothing
            is written.
        RunError: ``out`` holds something else or is in use.
        CheckpointError: the saved state is damaged.
        HostError: a simulator on the host failed.

    """
    runtime.start()
    config = resolved(config)
    checks.before_writing(config, roomy=Path(out).exists())  # The runner looks at what is left.
    run = StudyRun.create(out, config)
    runner.train(run, blocks)
    return run


def merge(runs: Sequence[Run | str | Path], out: str | Path) -> StudyRun:
    """Runs of different agents, trained apart with equal settings, as one; what was evaluated of
    them is kept.

    Args:
        runs: finished, at least in the blocks that they have begun.
        out: the new run's directory.

    Raises:
        RunError: they do not belong together, agents are missing or come twice, or ``out`` is not
            free.
        CheckpointError: a checkpoint is damaged.

    """
    merge_runs([_opened(run) for run in runs], Path(out))
    return StudyRun.open(out)


@host_errors()
def evaluate(
    run: Run | str | Path,
    experiments: Sequence[str] | None = None,
    changes: Sections | None = None,
) -> StudyRun:
    """Fill the tables of the named experiments, all by default; finished cells are skipped.

    A table that is there keeps the settings that were asked of it, one that is not takes the
    run's; ``changes`` come before both.

    Args:
        run: whose agents.  Settings of its config that were changed in memory are changes too.
        experiments: names; all by default.
        changes: settings by section: ``{"evaluate": {"states": 16}, "figure3": {...}}``.

    Raises:
        ConfigError: an unknown experiment or an impossible setting.
        RunError: the run has missing checkpoints.
        CheckpointError: a checkpoint is damaged.

    """
    runtime.start()
    run = _opened(run)
    chosen = registry.chosen(experiments)
    known = ("evaluate", *registry.everything())
    for section in changes or {}:
        if section not in known:
            raise ConfigError(f"unknown section '{section}'.{nearest(section, known)}")
    changes = _merged(_changed_in_memory(run), changes or {})
    plans = [_replanned(run, experiment, changes) for experiment in chosen]
    checks.before_writing(subject=run.subject, plans=plans)
    with run.lock():
        cells.fill(run.subject, run, plans)
    return run


def _merged(first: Sections, then: Sections) -> dict[str, dict[str, Any]]:
    return {
        section: {**first.get(section, {}), **then.get(section, {})} for section in {*first, *then}
    }


def sections(config: Config) -> dict[str, Mapping[str, Any]]:
    """Settings of evaluation by section."""
    return {**config.experiments, "evaluate": to_dict(config.evaluate)}


def _changed_in_memory(run: StudyRun) -> Sections:
    """Settings of evaluation that are not what the run's ``config.json`` says."""
    kept = sections(StudyRun.open(run.path).config)
    return {
        section: {
            name: value for name, value in now.items() if kept.get(section, {}).get(name) != value
        }
        for section, now in sections(run.config).items()
    }


def _replanned(run: StudyRun, experiment: Experiment, changes: Sections) -> asking.Plan:
    """An experiment's plan: what its table or the run asked for, with the changes.

    Says so if a table that is there will be made anew.
    """
    asked = asking.asked(run, experiment)
    before = asked or asking.Asked(
        to_dict(run.config.evaluate), dict(run.config.experiments.get(experiment.name, {}))
    )
    evaluate = {**before.evaluate, **changes.get("evaluate", {})}
    settings = {**before.settings, **changes.get(experiment.name, {})}
    plan = asking.planned(
        run.subject, experiment, from_dict(evaluate, EvaluateConfig, "evaluate"), settings
    )
    if asked:
        old, new = (asking.shared(experiment, of) for of in (asked.evaluate, evaluate))
        different = differences(old, new, "evaluate")
        different += differences(asked.settings, to_dict(plan.settings), experiment.name)
        if different:
            print(
                f"muscope: {experiment.name} is made anew: {', '.join(different)}.", file=sys.stderr
            )
    return plan


def refuse_stale(run: StudyRun) -> None:
    """Raise if a table of the run was made of other agents than it has now.

    Raises:
        RunError: there is such a table.

    """
    runtime.start()  # The run's agents are looked at.
    made, _ = experiments_of(run)
    for experiment in made:
        plan = _replanned(run, experiment, {})
        if not cells.is_current(run, experiment, cells.marks(run.subject, plan)):
            raise RunError(
                f"{run.table_path(experiment.name)} was made of other agents than the run's, or by "
                f"another version of muscope; run 'muscope evaluate {run.path}' first."
            )


def judge(run: Folder | str | Path) -> pa.Table:
    """Judge the paper's claims from the tables, and write ``tables/claims.parquet``.

    Raises:
        RunError: a table is damaged or was made of other agents than the run has.

    """
    folder = folder_of(run)
    if isinstance(folder, StudyRun) and folder.steps():
        refuse_stale(folder)
    return judge_folder(folder)


def report(
    run: Folder | str | Path, *others: Folder | str | Path, out: str | Path | None = None
) -> Path:
    """Draw the figures and write the report; returns its path.

    Args:
        run: whose tables.
        others: further runs, for a page about all of them: a column each, figure by figure.
        out: the page; by default the run's own ``report.html``, which is of one run alone.

    Raises:
        ConfigError: several runs and no ``out``.
        RunError: no table exists yet, or one is damaged or was made of other agents than the run
            has.

    """
    if others and out is None:
        raise ConfigError("a report of several runs needs --out FILE.html, a page of its own.")
    folders = [folder_of(each) for each in (run, *others)]
    for folder in folders:
        if isinstance(folder, StudyRun) and folder.steps():
            refuse_stale(folder)
    if out is None:
        write_report(folders[0])
        return folders[0].report_path
    report_together(folders, Path(out))
    return Path(out)


@said_if_short("the film", "end other programs, or try another --seed for a shorter episode")
@host_errors()
def film(
    run: Run | str | Path,
    agent: int = 0,
    step: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
) -> Path:
    """Film one episode and what the model believed of it; returns the file's path.

    Args:
        run: where the agent is.
        agent: its index.
        step: its training step, the last checkpoint by default.
        out: the file, a GIF or, by its name, an MP4 (extra ``[mp4]``); by default the run's own
            GIF, which its report shows.
        seed: of the episode.

    Raises:
        ConfigError: nobody has written how the environment looks, or the extra is missing.
        RunError: no such agent, or no checkpoint at that step.

    """
    runtime.start()
    run = _opened(run)
    path = run.film_path if out is None else Path(out)
    draw_film(run.agent(agent, step), path, seed)
    return path


@host_errors()
def tensorboard(
    run: Run | str | Path, out: str | Path | None = None, follow: float | None = None
) -> Path:
    """Write training curves to TensorBoard's event files (extra ``[tensorboard]``); returns their
    directory, which has one per agent.

    Args:
        run: finished, or in training.
        out: a directory of its own, replaced; by default ``tensorboard`` in the run's.
        follow: seconds between looks, until the run is trained; None to look once.

    Raises:
        ConfigError: tensorboardX is not installed, or ``out`` holds something else.
        RunError: the run has no log, and ``follow`` is None.

    """
    run = _opened(run)
    return write_boards(run, run.path / "tensorboard" if out is None else Path(out), follow)


@host_errors()
def plan(
    config: Config,
    experiments: Sequence[str] | None = None,
    gpu: str = "",
    calibration: int = SECONDS,
    out: str | Path | None = None,
) -> Forecast:
    """What a study will cost: counts, seconds, memory, disk and jobs.  Nothing is written.

    Args:
        config: all settings.
        experiments: names; all by default.
        gpu: estimate the seconds for this GPU from its data sheet; by default those of this
            machine are measured, with tiny programs.
        calibration: seconds after which calibration compiles nothing further; 0 for a first guess
            without any.
        out: the run's directory, whose blocks are told if it is there.

    Raises:
        ConfigError: an impossible setting, or an unknown GPU.
        HostError: a simulator on the host failed.

    """
    runtime.start()
    return forecast(resolved(config), experiments, gpu, calibration, out)


@host_errors()
def job(run: Run | str | Path, name: str) -> None:
    """Do one job of a study that was begun with ``ray``, alone and in this process.

    Raises:
        RunError: there is no such study or job, or another process holds what it needs.

    """
    runtime.start()
    path = run.path if isinstance(run, Run) else Path(run)
    jobs.execute_by_name(path, name)


def folder_of(run: Folder | str | Path) -> Folder:
    """A run, or the folder of an examination.

    Raises:
        RunError: it is neither.

    """
    if isinstance(run, StudyRun):
        return run
    path = run.path if isinstance(run, Folder) else Path(run)
    return Folder(path) if (path / EXAMINATION).is_file() else StudyRun.open(path)


def _opened(run: Run | str | Path) -> StudyRun:
    if isinstance(run, StudyRun):
        return run
    return StudyRun.open(run.path if isinstance(run, Run) else run)
