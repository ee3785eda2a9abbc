"""The evaluation stage: from checkpoints to tables, one resumable cell at a time."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

import jax
import pyarrow as pa

import muscope
from muscope import envs, runtime
from muscope.agent import networks
from muscope.agent.networks import MuZero
from muscope.config import Config, trained_alike
from muscope.errors import CheckpointError, ConfigError, RunError, nearest
from muscope.experiments import (
    cost,
    decisions,
    endings,
    figure2,
    figure3,
    figure4,
    figure5,
    figure6,
    figure7,
)
from muscope.experiments.base import Cell, Experiment
from muscope.experiments.lab import Lab, block_size
from muscope.progress import progress
from muscope.storage import checkpoint, tables
from muscope.storage.run import Run

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        figure2.EXPERIMENT,
        figure3.EXPERIMENT,
        endings.EXPERIMENT,
        figure4.EXPERIMENT,
        figure5.EXPERIMENT,
        figure6.EXPERIMENT,
        figure7.EXPERIMENT,
        decisions.EXPERIMENT,
    )
}


def load_agents(run: Run, step: int) -> MuZero:
    """All agents of a checkpoint, with a leading [P] axis.

    Raises:
        CheckpointError: it is missing, torn, or does not fit the run's config.

    """
    config = run.config
    spec = envs.make(config.environment).spec
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), config.train.agents))
    template = jax.eval_shape(jax.vmap(lambda key: networks.build(config.network, spec, key)), keys)
    path = run.checkpoint_path(step)
    agents, header = checkpoint.read(path, template, checkpoint.AGENTS_FORMAT)
    if header["step"] != step or not trained_alike(header["config"], config):
        raise CheckpointError(
            f"{path} belongs to another run or training step; put this run's file back, "
            "or delete it and train again."
        )
    return agents


def check(config: Config, names: Sequence[str] | None = None) -> list[Experiment]:
    """The named experiments (all by default), after a look at the settings they need.

    Raises:
        ConfigError: an unknown experiment or checkpoint, or an impossible setting.

    """
    chosen = []
    for name in names or EXPERIMENTS:
        if name not in EXPERIMENTS:
            raise ConfigError(f"unknown experiment '{name}'.{nearest(name, EXPERIMENTS)}")
        chosen.append(EXPERIMENTS[name])
    for experiment in chosen:
        experiment.steps(config)
        experiment.check(config)
    return chosen


def evaluate(run: Run, names: Sequence[str] | None = None) -> None:
    """Fill the tables of the named experiments (all by default); finished cells are skipped.

    Raises:
        ConfigError: an unknown experiment or an impossible setting.
        RunError: the run has missing checkpoints.
        CheckpointError: a checkpoint is damaged.

    """
    chosen = check(run.config, names)
    wanted = {step for experiment in chosen for step in experiment.steps(run.config)}
    missing = sorted(wanted - set(run.steps()))
    if missing:
        raise RunError(
            f"{run.path} has no checkpoint for training steps {missing}; "
            "finish 'muscope train' first."
        )
    runtime.prepare()
    with run.lock():
        run.save_config()
        lab = Lab(run.config, functools.partial(load_agents, run))
        for experiment in chosen:
            _evaluate_one(run, experiment, lab)


def _evaluate_one(run: Run, experiment: Experiment, lab: Lab) -> None:
    steps, population = experiment.steps(run.config), range(run.config.train.agents)
    cells = [Cell(step, agent) for step in steps for agent in population]
    marks = _marks(run, experiment)
    left = [cell for cell in cells if not _is_kept(run, experiment, cell, marks[cell.step])]
    if left:
        cost.announce(run.config, lab.environment, experiment.name, len(left))
        size = block_size(run.config)
        with progress(experiment.name, len(cells), "cell", len(cells) - len(left)) as bar:
            for step in steps:
                missing = [cell for cell in left if cell.step == step]
                for first in range(0, len(missing), size):
                    block = missing[first : first + size]
                    _evaluate_block(run, experiment, lab, block, size, marks[step])
                    bar.update(len(block))
    if not is_current(run, experiment):
        for name in experiment.files:
            paths = [run.cell_path(name, cell.name) for cell in cells]
            whole = pa.concat_tables([tables.read(path) for path in paths])
            tables.write(run.table_path(name), whole, _whole_mark(run, experiment))


def _is_kept(run: Run, experiment: Experiment, cell: Cell, mark: str) -> bool:
    return all(tables.mark(run.cell_path(name, cell.name)) == mark for name in experiment.files)


def _evaluate_block(
    run: Run, experiment: Experiment, lab: Lab, cells: list[Cell], size: int, mark: str
) -> None:
    """Compute and keep one checkpoint's rows of a few agents."""
    agents = [cell.agent for cell in cells]
    # The last agent fills up the block, so that one compiled program serves all blocks.
    lab.block = (*agents, *[agents[-1]] * (size - len(agents)))
    made = experiment.run(lab, cells[0].step)
    for name in experiment.files:
        rows = made[name].num_rows // size
        for i, cell in enumerate(cells):
            part = made[name].slice(i * rows, rows)
            tables.write(run.cell_path(name, cell.name), part, mark)


def is_current(run: Run, experiment: Experiment) -> bool:
    """Whether the experiment's tables were made from these checkpoints with these settings."""
    wanted = _whole_mark(run, experiment)
    return all(tables.mark(run.table_path(name)) == wanted for name in experiment.files)


def refuse_stale(run: Run, table: str) -> None:
    """Raise if a table of the run does not belong to its checkpoints and settings.

    Raises:
        RunError: it was made with others.

    """
    experiment = next(e for e in EXPERIMENTS.values() if table in e.files)
    if not is_current(run, experiment):
        raise RunError(
            f"{run.table_path(table)} was made with other checkpoints or settings than the "
            f"run's; run 'muscope evaluate {run.path}' first."
        )


def _marks(run: Run, experiment: Experiment) -> dict[int, str]:
    """Per step, what a cell's rows depend on: checkpoints' contents and the settings."""
    steps = experiment.steps(run.config)
    digests = {
        step: checkpoint.read_header(run.checkpoint_path(step), checkpoint.AGENTS_FORMAT)["digest"]
        for step in steps
    }
    fixed = {
        "muscope": muscope.__version__,
        "revision": experiment.revision,
        "seed": run.config.evaluate.seed,
        **experiment.settings(run.config),
        **({"truth": "game"} if run.config.evaluate.truth == "game" else {}),
    }
    return {
        step: json.dumps(
            {**fixed, "step": step, "checkpoint": digests if experiment.across else digests[step]},
            sort_keys=True,
        )
        for step in steps
    }


def _whole_mark(run: Run, experiment: Experiment) -> str:
    return "\n".join(_marks(run, experiment).values())
