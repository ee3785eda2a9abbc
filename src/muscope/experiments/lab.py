"""Where experiments work: a lab has a subject and its programs, a bench some of its agents.

A *bench* has as many agents, all of one block, as one call of a compiled program takes.  It holds
what experiments share (on-policy states), and is dropped when its turn is over.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Key

from muscope import envs
from muscope.agent import Agent
from muscope.config import EvaluateConfig, SearchConfig, to_dict
from muscope.envs import Environment, State
from muscope.errors import ConfigError
from muscope.evaluation import play
from muscope.runtime import agents_mesh, map_agents
from muscope.storage import tables
from muscope.storage.schema import Schema
from muscope.subjects import Subject
from muscope.version import __version__

MAPS = 30_000
"""Memory maps of the process from which on the oldest programs are dropped.  On CPU a program with
Lunar Lander in it takes five to fifteen thousand, and Linux gives a process 65,530."""
MOST_PROGRAMS = 64
"""Kept in a process, the latest: some three times what a study takes, so that the next variant of a
sweep finds those that it shares."""
ON_POLICY = 0
"""Random stream of the on-policy episodes."""


class Scope(NamedTuple):
    """All that a compiled program may read besides its arguments; nothing here changes."""

    environment: Environment
    """The game, in which returns are counted."""
    truth: Environment
    """What learned models are held against, over the same states; see ``evaluate.truth``."""
    discount: float
    search: SearchConfig
    evaluate: EvaluateConfig


class OnPolicy(NamedTuple):
    """Episodes of pi_MuZero, and states drawn from them."""

    scores: play.Scores
    """[B, episodes]"""
    states: State
    """Pytree of [B, M, ...]: the on-policy distribution, M states per agent."""


def group_size(
    population: int, wanted: int = 0, devices: Sequence[jax.Device] | None = None
) -> int:
    """Agents of a block in one call: a multiple of the devices that share them, and no more than
    the calls need, so that little fills the last one up.

    Args:
        population: how many agents the block has.
        wanted: ``evaluate.agents_at_once``, the most.
        devices: this machine's by default.

    """
    devices = jax.local_devices() if devices is None else devices
    count = min(len(devices), population, wanted or population)
    if not wanted:
        wanted = 4 * count if devices[0].platform == "cpu" else population
    most = -(-min(wanted, population) // count)  # on a device
    calls = -(-population // (most * count))
    return -(-population // (calls * count)) * count


class Group(NamedTuple):
    """Agents that are examined in one call."""

    agents: range
    size: int
    """How many the call takes: the last agent fills it up, so that one compiled program serves all
    groups of a block."""


def groups(
    blocks: Sequence[range], wanted: int = 0, size_of: Callable[[int, int], int] = group_size
) -> list[Group]:
    """All agents, group by group; never agents of two blocks at once, so that what comes out for a
    block does not depend on the others.

    Args:
        blocks: the subject's, or some of them.
        wanted: ``evaluate.agents_at_once``.
        size_of: how many a call takes of a block of so many, if so many are wanted.

    """
    found = []
    for block in blocks:
        size = size_of(len(block), wanted)
        for first in range(block.start, block.stop, size):
            found.append(Group(range(first, min(first + size, block.stop)), size))
    return found


class Lab:
    """A subject under examination.

    Attributes:
        subject: who is examined.
        evaluate: the settings that experiments share.
        scope: what compiled programs may read.

    """

    def __init__(self, subject: Subject, evaluate: EvaluateConfig):
        self.subject = subject
        self.evaluate = evaluate
        game = subject.environment
        truth = envs.training_view(game) if evaluate.truth == "training" else game
        self.scope = Scope(game, truth, subject.discount, subject.search, evaluate)
        self.load = functools.lru_cache(maxsize=16)(subject.load_block)
        self._finite = functools.lru_cache(maxsize=None)(self._find_finite)

    def bench(self, agents: Sequence[int]) -> Bench:
        """Some of the agents, by their numbers."""
        return Bench(self, agents)

    def sound(self, agent: int, step: int) -> bool:
        """Whether an agent's parameters at a training step are finite: it has not diverged."""
        block = self.subject.block_of(agent)
        return bool(self._finite(step, block)[agent - block.start])

    def _find_finite(self, step: int, block: range) -> np.ndarray:
        """Of a block's agents."""
        finite = np.ones(len(block), bool)
        for leaf in jax.tree.leaves(self.load(step, block)):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                finite &= np.isfinite(leaf).reshape(len(finite), -1).all(axis=1)
        return finite

    def program(self, of_one: Callable[..., Any], size: int, per_agent: int, static: dict) -> Any:
        """``of_one`` compiled for ``size`` agents; see :meth:`Bench.call`.

        Labs of one process share the programs in which all that is compiled in is the same.
        """
        scope = self.scope
        # The truth follows from the game and ``evaluate``.  A program keeps its scope, so the
        # game's identity is nobody else's as long as the program is there.
        within = (id(scope.environment), scope.discount, scope.search, scope.evaluate)
        how = (size, per_agent, self.subject.in_turn, tuple(sorted(static.items())))
        name = (of_one, *within, *how)
        if name in _PROGRAMS:
            _PROGRAMS[name] = _PROGRAMS.pop(name)
        else:
            while _PROGRAMS and (len(_PROGRAMS) >= MOST_PROGRAMS or _memory_maps() > MAPS):
                del _PROGRAMS[next(iter(_PROGRAMS))]
            _PROGRAMS[name] = map_agents(
                functools.partial(of_one, scope, **static),
                agents_mesh(size),
                per_agent=per_agent,
                in_turn=self.subject.in_turn,
            )
        return _PROGRAMS[name]


_PROGRAMS: dict[Hashable, Callable[..., Any]] = {}
"""By all that they are compiled for, the latest last."""


def _memory_maps() -> int:
    """How many memory maps this process has; 0 where that is not told."""
    maps = Path("/proc/self/maps")
    return maps.read_text().count("\n") if sys.platform == "linux" and maps.exists() else 0


class Bench:
    """Agents that are examined together, B of them.

    Attributes:
        lab: where it stands.
        agents: their numbers in the population.

    """

    def __init__(self, lab: Lab, agents: Sequence[int]):
        self.lab = lab
        self.agents = tuple(agents)
        self._trained_with = lab.subject.block_of(self.agents[0])
        self._made: dict[Hashable, Any] = {}

    @property
    def scope(self) -> Scope:
        """What compiled programs may read."""
        return self.lab.scope

    @property
    def subject(self) -> Subject:
        """Who is examined."""
        return self.lab.subject

    @property
    def evaluate(self) -> EvaluateConfig:
        """The settings that experiments share."""
        return self.lab.evaluate

    def at(self, step: int) -> Agent:
        """Its agents at a training step, [B, ...]."""
        index = jnp.asarray(self.agents) - self._trained_with.start
        agents = self.lab.load(step, self._trained_with)
        return jax.tree.map(lambda x: jnp.asarray(x)[index], agents)

    def temperature(self, step: int) -> float:
        """T of Equation 1 at a training step."""
        return self.subject.temperature(step)

    def keys(self, step: int, stream: int) -> Key[Array, "B"]:
        """One key per agent, different for every step and random stream."""
        root = jax.random.fold_in(jax.random.key(self.evaluate.seed), step)
        root = jax.random.fold_in(root, stream)
        return jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.asarray(self.agents))

    def call(
        self,
        of_one: Callable[..., Any],
        *per_agent: Any,
        shared: Sequence[Any] = (),
        **static: Hashable,
    ) -> Any:
        """Run one agent's function for all of them, in one compiled program.

        Args:
            of_one: ``of_one(scope, *per_agent, *shared, **static)`` of a single agent, a function
                at a module's level, so that its program serves all benches and steps.
            per_agent: arguments with a leading [B] axis.
            shared: arrays and numbers that are the same for all agents.
            static: what the program is compiled for: numbers of states, horizons, settings.

        """
        program = self.lab.program(of_one, len(self.agents), len(per_agent), static)
        return program(*per_agent, *shared)

    def once(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, made once for all experiments that ask for this name."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def on_policy(self, step: int) -> OnPolicy:
        """Episodes and states of the agents' pi_MuZero at a training step."""

        def make() -> OnPolicy:
            keys, shared = self.keys(step, ON_POLICY), (self.temperature(step),)
            return self.call(_on_policy, self.at(step), keys, shared=shared)

        return self.once(("on-policy", step), make)

    def table(self, schema: Schema, step: int, settings: Any, **columns: Any) -> pa.Table:
        """Rows with ``agent``, ``step`` and the settings filled in.

        Args:
            schema: the table's; its first column is ``agent``.
            step: the checkpoint.
            settings: the experiment's own.
            columns: arrays [B, rows per agent], or anything that broadcasts to that.

        """
        given = {name: np.asarray(value) for name, value in columns.items()}
        strange = sorted(set(given) - set(schema.names))
        if strange:
            raise ConfigError(
                f"table '{schema.name}' has no column {strange[0]}; it has "
                f"{', '.join(schema.names)}."
            )
        height = max((value.shape[-1] for value in given.values() if value.ndim), default=1)
        shape = (len(self.agents), height)
        given["agent"] = np.asarray(self.agents)[:, None]
        given.setdefault("step", np.asarray(step))
        missing = sorted(set(schema.names) - set(given))
        if missing:
            raise ConfigError(
                f"table '{schema.name}' needs a column {missing[0]}; it was given "
                f"{', '.join(columns) or 'none'}."
            )
        flat = {name: np.broadcast_to(given[name], shape).ravel() for name in schema.names}
        return tables.make(schema, flat, row_settings(self.subject, self.evaluate, settings))


def row_settings(subject: Subject, evaluate: EvaluateConfig, settings: Any) -> dict[str, Any]:
    """A value for each of :data:`muscope.storage.tables.SETTINGS`."""
    everything = {
        **subject.settings(),
        "evaluate": to_dict(evaluate),
        **({settings.section: to_dict(settings)} if settings.section else {}),
    }
    return {
        "environment": subject.environment_name,
        "preset": subject.name,
        "seed": subject.seed,
        "discount": subject.discount,
        "simulations": subject.search.simulations,
        "evaluate_seed": evaluate.seed,
        "muscope": __version__,
        "config": json.dumps(everything, sort_keys=True),
    }


def interleave(parts: Sequence[pa.Table], agents: int) -> pa.Table:
    """Tables of the same agents in the same order, as one with each agent's rows together."""
    sizes = [part.num_rows // agents for part in parts]
    return pa.concat_tables(
        part.slice(i * size, size)
        for i in range(agents)
        for part, size in zip(parts, sizes, strict=True)
    )


def _on_policy(scope: Scope, agent: Agent, key: Key[Array, ""], temperature: Array) -> OnPolicy:
    play_key, draw_key = jax.random.split(key)
    policy = play.muzero_policy(scope.environment, agent, scope.search, scope.discount, temperature)
    evaluate = scope.evaluate
    scores, states = play.play_and_draw(
        scope.environment, policy, evaluate.episodes, evaluate.states, play_key, draw_key
    )
    return OnPolicy(scores, states)
