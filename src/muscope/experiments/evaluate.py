"""The evaluation stage: from checkpoints to tables, one resumable cell at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence

import jax
import pyarrow as pa

import muscope
from muscope import envs, runtime
from muscope.agent import networks
from muscope.agent.networks import MuZero
from muscope.config import training_dict
from muscope.errors import CheckpointError, ConfigError, RunError, nearest
from muscope.experiments import figure2
from muscope.experiments.base import Cell, Experiment
from muscope.progress import progress
from muscope.storage import checkpoint, tables
from muscope.storage.run import Run

EXPERIMENTS: dict[str, Experiment] = {e.name: e for e in (figure2.EXPERIMENT,)}


def load_agents(run: Run, step: int) -> MuZero:
    """All agents of a checkpoint, with a leading [P] axis.

    Raises:
        CheckpointError: it is missing, torn, or does not fit the run's config.

    """
    config = run.config
    spec = envs.make(config.environment.name).spec
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), config.train.agents))
    template = jax.eval_shape(jax.vmap(lambda key: networks.build(config.network, spec, key)), keys)
    path = run.checkpoint_path(step)
    agents, header = checkpoint.read(path, template, checkpoint.AGENTS_FORMAT)
    if header["step"] != step or header["config"] != training_dict(config):
        raise CheckpointError(
            f"{path} belongs to another run or training step; put this run's file back, "
            "or delete it and train again."
        )
    return agents


def evaluate(run: Run, names: Sequence[str] | None = None) -> None:
    """Fill the tables of the named experiments (all by default); finished cells are skipped.

    Raises:
        ConfigError: an unknown experiment.
        RunError: the run has missing checkpoints.
        CheckpointError: a checkpoint is damaged.

    """
    chosen = []
    for name in names or EXPERIMENTS:
        if name not in EXPERIMENTS:
            raise ConfigError(f"unknown experiment '{name}'.{nearest(name, EXPERIMENTS)}")
        chosen.append(EXPERIMENTS[name])
    missing = run.missing_steps()
    if missing:
        raise RunError(
            f"{run.path} has no checkpoint for training steps {list(missing)}; "
            "finish 'muscope train' first."
        )
    runtime.prepare()
    with run.lock():
        run.save_config()
        for experiment in chosen:
            _evaluate_one(run, experiment)


def _evaluate_one(run: Run, experiment: Experiment) -> None:
    cells = [Cell(step) for step in run.config.train.schedule]
    marks = {cell: _mark(run, experiment, cell) for cell in cells}
    paths = {cell: run.cell_path(experiment.name, cell.name) for cell in cells}
    left = [cell for cell in cells if tables.mark(paths[cell]) != marks[cell]]
    if left:
        compute = experiment.make_runner(run.config)
        with progress(experiment.name, len(cells), "cell", len(cells) - len(left)) as bar:
            for cell in left:
                table = compute(load_agents(run, cell.step), cell)
                tables.write(paths[cell], table, marks[cell])
                bar.update(1)
    if not is_current(run, experiment):
        whole = pa.concat_tables([tables.read(path) for path in paths.values()])
        tables.write(run.table_path(experiment.name), whole, _whole_mark(run, experiment))


def is_current(run: Run, experiment: Experiment) -> bool:
    """Whether the experiment's table was made from these checkpoints with these settings."""
    return tables.mark(run.table_path(experiment.name)) == _whole_mark(run, experiment)


def _mark(run: Run, experiment: Experiment, cell: Cell) -> str:
    """What a cell's rows depend on: the checkpoint's content and the evaluation's settings."""
    header = checkpoint.read_header(run.checkpoint_path(cell.step), checkpoint.AGENTS_FORMAT)
    values = {
        "muscope": muscope.__version__,
        "seed": run.config.evaluate.seed,
        "checkpoint": header["digest"],
        **experiment.settings(run.config),
    }
    return json.dumps(values, sort_keys=True)


def _whole_mark(run: Run, experiment: Experiment) -> str:
    return "\n".join(_mark(run, experiment, Cell(s)) for s in run.config.train.schedule)
