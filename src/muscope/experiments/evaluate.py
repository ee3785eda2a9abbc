"""From a subject to tables, one resumable cell at a time."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from muscope import runtime
from muscope.config import EvaluateConfig, to_dict
from muscope.errors import ConfigError, DivergedError
from muscope.experiments import cost, registry
from muscope.experiments.base import Experiment
from muscope.experiments.lab import Bench, Lab, group_size, groups
from muscope.experiments.plans import Plan, shared
from muscope.memory import said_if_short
from muscope.progress import progress
from muscope.storage import tables
from muscope.storage.folder import Folder
from muscope.storage.schema import Schema
from muscope.subjects import Subject
from muscope.version import __version__

LESS = "lower evaluate.agents_at_once, evaluate.states, evaluate.episodes or its own settings"
"""How experiments take less memory."""


class Cell(NamedTuple):
    """A piece of an experiment that is kept and skipped as a whole."""

    step: int
    """The checkpoint's training step."""
    agent: int
    """The agent, 0..P-1."""

    @property
    def name(self) -> str:
        return f"step-{self.step:08d}-agent-{self.agent:03d}"


class Piece(NamedTuple):
    """Cells of one experiment at one checkpoint that are computed together."""

    experiment: str
    step: int
    agents: range
    """Of one block, at most as many as go into one call."""


def pieces_of(
    subject: Subject, plans: Sequence[Plan], blocks: Sequence[range] | None = None
) -> list[Piece]:
    """What is to be examined, piece by piece; known before the agents are.

    Agents go through all experiments of equal shared settings, which share their on-policy states,
    before the next have their turn.

    Args:
        subject: whose agents.
        plans: of different experiments.
        blocks: those of the subject's that are looked at; all by default.

    """
    found = []
    for evaluate in dict.fromkeys(plan.evaluate for plan in plans):
        alike = [plan for plan in plans if plan.evaluate == evaluate]
        for agents, _ in groups(blocks or subject.blocks, evaluate.agents_at_once):
            found += [
                Piece(plan.experiment.name, step, agents) for plan in alike for step in plan.steps
            ]
    return found


def cells_of(plan: Plan, agents: Iterable[int]) -> list[Cell]:
    """The cells of some agents in a plan, in order."""
    agents = list(agents)
    return [Cell(step, agent) for step in plan.steps for agent in agents]


def announce(
    subject: Subject, plans: Sequence[Plan], left: Sequence[Collection[Cell]] | None = None
) -> None:
    """Say how long a simulator on the host may be busy, if that is long.

    Args:
        subject: who is to be examined.
        plans: all that is to be done.
        left: by plan, the cells that are not there yet; all by default.

    """
    left = [cells_of(plan, range(subject.agents)) for plan in plans] if left is None else left
    shares = [
        cost.Share(plan.experiment, plan.evaluate, plan.settings, frozenset(cells))
        for plan, cells in zip(plans, left, strict=True)
    ]
    cost.announce(subject, shares)


def fill(subject: Subject, folder: Folder, plans: Sequence[Plan]) -> None:
    """Fill the tables of the planned experiments; finished cells are skipped.

    The folder's lock must be held.

    Raises:
        CheckpointError: agents cannot be read.
        HostError: a simulator on the host failed.

    """
    runtime.start()
    filling = Filling(subject, folder, plans)
    filling.announce()
    pieces = filling.pieces()
    total = sum(len(piece.agents) for piece in pieces)
    left = filling.left()
    with progress("evaluate", total, "cell", total - left) as bar:
        for piece in pieces:
            bar.set_description_str(piece.experiment, refresh=False)
            made = filling.examine(piece)
            if made:
                bar.update(made)
                filling.gather([piece.experiment])
    filling.gather()


class Filling:
    """The cells of some plans in a folder, to be filled piece by piece.

    Args:
        subject: who is examined.
        folder: where.
        plans: of different experiments.
        blocks: those of the subject's that are looked at; all by default.

    """

    def __init__(
        self,
        subject: Subject,
        folder: Folder,
        plans: Sequence[Plan],
        blocks: Sequence[range] | None = None,
    ):
        self.subject = subject
        self.blocks = subject.blocks if blocks is None else tuple(blocks)
        self._work = {
            plan.experiment.name: _Work(subject, folder, plan, self.blocks) for plan in plans
        }
        self._labs: dict[EvaluateConfig, Lab] = {}
        self._bench: tuple[Any, Bench] | None = None  # the latest

    def pieces(self) -> list[Piece]:
        """All pieces; see :func:`pieces_of`."""
        plans = [work.plan for work in self._work.values()]
        return pieces_of(self.subject, plans, self.blocks)

    def left(self) -> int:
        """How many cells are still to be made."""
        return sum(len(work.left) for work in self._work.values())

    def announce(self) -> None:
        """Say how long a simulator on the host may be busy, if that is long."""
        work = self._work.values()
        announce(self.subject, [w.plan for w in work], [w.left for w in work])

    def examine(self, piece: Piece) -> int:
        """Compute and keep the cells of a piece that are missing; returns how many."""
        work = self._work[piece.experiment]
        if not work.wanted(piece):
            return 0
        return work.examine(self._bench_of(piece, work.plan.evaluate), piece)

    def _bench_of(self, piece: Piece, evaluate: EvaluateConfig) -> Bench:
        """The piece's agents; the bench before theirs is dropped."""
        if evaluate not in self._labs:
            self._labs = {evaluate: Lab(self.subject, evaluate)}
        if self._bench is None or self._bench[0] != (evaluate, piece.agents):
            trained = len(self.subject.block_of(piece.agents[0]))
            size = group_size(trained, evaluate.agents_at_once)
            # The last agent fills it up, so that one compiled program serves all.
            agents = [*piece.agents, *[piece.agents[-1]] * (size - len(piece.agents))]
            self._bench = ((evaluate, piece.agents), self._labs[evaluate].bench(agents))
        return self._bench[1]

    def gather(self, experiments: Sequence[str] | None = None) -> None:
        """Put the tables of experiments together whose cells are all there."""
        for name in self._work if experiments is None else experiments:
            self._work[name].gather()


class _Work:
    """One plan's cells and tables in a folder."""

    def __init__(self, subject: Subject, folder: Folder, plan: Plan, blocks: Sequence[range]):
        self.subject, self.folder, self.plan = subject, folder, plan
        self.marks = marks(subject, plan, blocks)
        self.cells = cells_of(plan, (agent for block in blocks for agent in block))
        self.left = self._left()

    @property
    def files(self) -> tuple[str, ...]:
        return self.plan.experiment.files

    def _left(self) -> set[Cell]:
        """The cells that are not kept, or were made from something else, or are damaged.

        Cells that a table is still to be put together from are read in full: one that is damaged
        is made anew, as all others may be, and nothing is lost but its seconds.
        """

        def kept(cell: Cell, look: Callable[[Path], dict[str, str]]) -> bool:
            paths = (self.folder.cell_path(name, cell.name) for name in self.files)
            return all(look(p).get("mark") == self.marks[cell] for p in paths)

        left = {cell for cell in self.cells if not kept(cell, tables.about)}
        if self._is_whole():
            return left
        damaged = {
            cell for cell in self.cells if cell not in left and not kept(cell, tables.checked)
        }
        if damaged:
            print(
                f"muscope: {len(damaged)} damaged cell(s) of {self.plan.experiment.name} are made "
                "anew.",
                file=sys.stderr,
            )
        return left | damaged

    def wanted(self, piece: Piece) -> list[int]:
        """The agents of a piece whose cells are missing."""
        return [agent for agent in piece.agents if Cell(piece.step, agent) in self.left]

    def examine(self, bench: Bench, piece: Piece) -> int:
        """Compute and keep a piece's missing cells; returns how many."""
        step, wanted, experiment = piece.step, self.wanted(piece), self.plan.experiment
        short = said_if_short(f"{experiment.name} at training step {step}", LESS)
        with registry.blamed(experiment, "run"), short:
            made = experiment.run(bench, self.plan.settings, step)
        for schema in experiment.tables:
            height = _rows_per_agent(made, schema.name, bench)
            sound = schema.without(made[schema.name], bench.lab.sound)
            for agent in wanted:
                rows = sound.slice((agent - piece.agents[0]) * height, height)
                _refuse_broken(schema, rows, agent, step)
                path = self.folder.cell_path(schema.name, Cell(step, agent).name)
                about = {
                    "mark": self.marks[Cell(step, agent)],
                    "devices": runtime.devices(),
                    "diverged": "" if bench.lab.sound(agent, step) else "yes",
                }
                tables.write(path, rows, about)
        self.left -= {Cell(step, agent) for agent in wanted}
        return len(wanted)

    @functools.cached_property
    def _about(self) -> dict[str, str]:
        """What the tables say of themselves."""
        return {
            "mark": whole(self.marks),
            "experiment": registry.source(self.plan.experiment),
            "agents": str(self.subject.agents),
            "training_steps": str(self.subject.training_steps),
            "clipped": json.dumps(self.subject.clipped()),
            "asked": json.dumps(
                {
                    "evaluate": to_dict(self.plan.evaluate),
                    "settings": to_dict(self.plan.settings),
                }
            ),
        }

    def _is_whole(self) -> bool:
        """Whether the tables are there, current and undamaged."""
        written = (tables.checked(self.folder.table_path(name)) for name in self.files)
        return all(self._about.items() <= there.items() for there in written)

    def gather(self) -> None:
        """Put the tables together, once all cells are there."""
        if self.left or self._is_whole():
            return
        for name in self.files:
            paths = [self.folder.cell_path(name, cell.name) for cell in self.cells]
            parts = [tables.read(path) for path in paths]
            seen = [tables.metadata(part.schema) for part in parts]
            diverged: dict[int, int] = {}
            for cell, there in zip(self.cells, seen, strict=True):
                if there.get("diverged"):
                    diverged[cell.agent] = min(cell.step, diverged.get(cell.agent, cell.step))
            found = {
                "diverged": json.dumps(diverged, sort_keys=True),
                "devices": " and ".join(sorted({there.get("devices", "") for there in seen})),
            }
            about = {**self._about, **found}
            tables.write(self.folder.table_path(name), pa.concat_tables(parts), about)


def _refuse_broken(schema: Schema, rows: pa.Table, agent: int, step: int) -> None:
    """Raise for numbers that no mean should leave out in silence.

    Raises:
        DivergedError: one is not finite, and its column does not say that it may be undefined.

    """
    column = schema.broken(rows)
    if column is not None:
        raise DivergedError(
            f"{schema.name}, training step {step}: '{column}' of agent {agent} is not a finite "
            "number, so the environment or the agent gave one that is not; mend it. Other cells "
            "are kept. (Where NaN means that nothing was observed, the column says so: "
            "number(..., undefined=True).)"
        )


def _rows_per_agent(made: Any, name: str, bench: Bench) -> int:
    """How many rows of a table belong to each agent of the bench.

    Raises:
        ConfigError: the experiment did not make the table, or not agent by agent.

    """
    if not isinstance(made, Mapping) or not isinstance(made.get(name), pa.Table):
        there = list(made) if isinstance(made, Mapping) else f"a {type(made).__name__}"
        raise ConfigError(
            f"the experiment did not make its table '{name}', only {there}; its run must return "
            "a table of bench.table by each name."
        )
    height, rest = divmod(made[name].num_rows, len(bench.agents))
    agents = made[name]["agent"].to_pylist()
    if rest or agents != [agent for agent in bench.agents for _ in range(height)]:
        raise ConfigError(
            f"table '{name}' must have equally many rows of each agent, in the bench's order."
        )
    return height


def marks(subject: Subject, plan: Plan, blocks: Sequence[range] | None = None) -> dict[Cell, str]:
    """What each cell's rows depend on: the agents of its block, the subject's and the settings;
    for some of the subject's blocks, all by default.
    """
    experiment = plan.experiment
    fixed = {
        "muscope": __version__,
        "revision": experiment.revision,
        "subject": subject.identity(),
        "evaluate": shared(experiment, to_dict(plan.evaluate)),
        "settings": to_dict(plan.settings),
    }
    found = {}
    for block in subject.blocks if blocks is None else blocks:
        digests = {step: subject.digest_of(step, block) for step in plan.steps}
        for step in plan.steps:
            mark = json.dumps(
                {
                    **fixed,
                    "step": step,
                    "temperature": subject.temperature(step),
                    "agents": digests if experiment.across else digests[step],
                },
                sort_keys=True,
            )
            found.update({Cell(step, agent): mark for agent in block})
    return found


def whole(by_cell: Mapping[Cell, str]) -> str:
    """The mark of a table of all cells."""
    return "\n".join(dict.fromkeys(by_cell.values()))


def is_current(folder: Folder, experiment: Experiment, by_cell: Mapping[Cell, str]) -> bool:
    """Whether an experiment's tables were made from these agents with these settings.

    Raises:
        RunError: one is missing or damaged.

    """
    made = (tables.read(folder.table_path(name)).schema for name in experiment.files)
    return all(tables.metadata(schema).get("mark") == whole(by_cell) for schema in made)
