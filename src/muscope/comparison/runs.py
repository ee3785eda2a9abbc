"""Who is compared: runs, or examinations of anybody's agents, by their tables."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from muscope.config import differences
from muscope.errors import RunError
from muscope.experiments import registry
from muscope.experiments.base import Experiment
from muscope.storage import tables
from muscope.storage.folder import Folder

GROWN = ("train.checkpoints ", "train.steps ", "preset ")
"""Settings in which runs may differ without being different trainings, at the same step."""


class Compared:
    """One of the runs.

    Attributes:
        name: how tables and pictures call it.
        folder: where it is.

    """

    def __init__(self, name: str, folder: Folder):
        self.name, self.folder = name, folder
        self._kept = functools.cache(self._read)

    def _read(self, name: str) -> tuple[pa.Table, dict[str, Any]] | None:
        """A table and what each of its rows says of the whole; None if there is none.

        Without the column of all settings, which is a hundred times as large as the others.
        """
        path = self.folder.table_path(name)
        if not path.is_file():
            return None
        table = tables.read(path)
        return table.drop_columns(["config"]), tables.settings_of(table)

    def table(self, name: str) -> pa.Table | None:
        """One of its tables; None if it has none of that name.

        Raises:
            RunError: it is damaged.

        """
        kept = self._kept(name)
        return kept[0] if kept else None

    def has(self, experiment: Experiment) -> bool:
        """Whether all tables of an experiment are there."""
        return all(self.folder.table_path(name).is_file() for name in experiment.files)

    def experiments(self) -> list[Experiment]:
        """Those whose tables are there, in the order in which they are shown."""
        return [e for e in registry.everything().values() if self.has(e)]

    def said(self, experiment: Experiment) -> dict[str, Any]:
        """What an experiment's table says of itself in every row.

        Raises:
            RunError: it is damaged.

        """
        kept = self._kept(experiment.name)
        assert kept is not None
        return kept[1]

    def settings(self, experiment: Experiment) -> dict[str, Any]:
        """All settings that an experiment's table was made with."""
        return json.loads(self.said(experiment)["config"])


def named(folders: Sequence[Folder]) -> list[Compared]:
    """Runs by the ends of their paths, as long as it takes to tell them apart.

    Raises:
        RunError: the same run comes twice.

    """
    paths = [Path(folder.path).resolve() for folder in folders]
    twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if twice is not None:
        raise RunError(f"{twice} is named twice; a run is compared with others.")
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len({*names}) == len(names):
            break
    return [Compared(name, folder) for name, folder in zip(names, folders, strict=True)]


def refuse(runs: Sequence[Compared]) -> None:
    """Raise if runs cannot be compared.

    Raises:
        RunError: there is one alone, one without tables, one about another environment, or they
            have no table in common.

    """
    first = runs[0]
    if len(runs) < 2:
        raise RunError(f"{first.folder.path} is alone; name two runs or more, or a sweep's folder.")
    for run in runs:
        if not run.experiments():
            raise RunError(
                f"{run.folder.path} has no tables to compare; 'muscope evaluate' or 'muscope "
                "examine' makes them."
            )
    worlds = [run.said(run.experiments()[0])["environment"] for run in runs]
    for run, world in zip(runs, worlds, strict=True):
        if world != worlds[0]:
            raise RunError(
                f"{run.folder.path} is about {world} and {first.folder.path} about {worlds[0]}; "
                "runs of one environment are compared."
            )
    if not any(run.has(e) for e in first.experiments() for run in runs[1:]):
        raise RunError(
            f"{first.folder.path} has no table that any of the others has; evaluate one figure of "
            "all of them."
        )


def paired(run: Compared, reference: Compared, experiment: Experiment) -> bool:
    """Whether agents of equal number began alike: those of two runs with one seed.

    An agent's randomness depends on the run's seed and its own number alone
    (:meth:`muscope.training.population.Population.agent_keys`).
    """
    seeds = [of.said(experiment)["seed"] for of in (run, reference)]
    return seeds[0] == seeds[1] and seeds[0] >= 0


def beside(run: Compared, reference: Compared) -> list[str]:
    """In which settings of its training, its search and its world a run differs, with both
    values, the reference's first.
    """
    common = next((e for e in reference.experiments() if run.has(e)), None)
    if common is None:
        return []
    ours, theirs = (
        {
            name: value
            for name, value in of.settings(common).items()
            if name != "evaluate" and name not in registry.everything()
        }
        for of in (run, reference)
    )
    return [line for line in differences(theirs, ours) if not line.startswith(GROWN)]


def looked_at_otherwise(run: Compared, reference: Compared, experiment: Experiment) -> list[str]:
    """In which settings of an experiment, its checkpoints left out, a run's tables differ."""
    names = ("evaluate", experiment.settings.section)
    ours, theirs = (
        {name: of.settings(experiment).get(name, {}) for name in names if name}
        for of in (run, reference)
    )
    lines = differences(theirs, ours)
    quiet = ("checkpoints ", "agents_at_once ")
    return [line for line in lines if not line.partition(".")[2].startswith(quiet)]
