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
from muscope.errors import ConfigError, RunError, nearest
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
    agents, _ = checkpoint.read(run.checkpoint_path(step), template, checkpoint.AGENTS_FORMAT)
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
        for experiment in chosen:
            _evaluate_one(run, experiment)


def _evaluate_one(run: Run, experiment: Experiment) -> None:
    mark = _fingerprint(run, experiment)
    cells = [Cell(step) for step in run.config.train.schedule]
    paths = [run.cell_path(experiment.name, cell.name) for cell in cells]
    open_cells = [
        (cell, path)
        for cell, path in zip(cells, paths, strict=True)
        if tables.fingerprint(path) != mark
    ]
    if open_cells:
        compute = experiment.make_runner(run.config)
        with progress(experiment.name, len(cells), "cell", len(cells) - len(open_cells)) as bar:
            for cell, path in open_cells:
                table = compute(load_agents(run, cell.step), cell)
                tables.write(path, table, settings=mark)
                bar.update(1)
    if open_cells or tables.fingerprint(run.table_path(experiment.name)) != mark:
        whole = pa.concat_tables([tables.read(path) for path in paths])
        tables.write(run.table_path(experiment.name), whole, settings=mark)


def _fingerprint(run: Run, experiment: Experiment) -> str:
    """What a cell's rows depend on, besides the run's fixed config."""
    values = {
        "muscope": muscope.__version__,
        "seed": run.config.evaluate.seed,
        **experiment.settings(run.config),
    }
    return json.dumps(values, sort_keys=True)
