"""The bench that experiments work at: one block of agents, their checkpoints, their programs.

A block is as many agents as one call of a compiled program takes.  Every experiment asks
the lab for the same things (parameters, keys, temperatures, on-policy states) and so reads
the same agents in the same states.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Key

from muscope import envs
from muscope.agent import Agent, networks
from muscope.config import Config
from muscope.envs.base import Environment, State
from muscope.errors import ConfigError
from muscope.evaluation import play
from muscope.runtime import agents_mesh, over_agents
from muscope.search import temperature_at
from muscope.storage import tables

PROGRAMS = 3
"""Compiled programs that are held at once.  On CPU one with Lunar Lander in it takes five to
fifteen thousand memory maps, and Linux gives a process 65,530."""


class OnPolicy(NamedTuple):
    """Episodes of pi_MuZero, and states drawn from them."""

    scores: play.Scores
    """[B, episodes]"""
    states: State
    """Pytree of [B, M, ...]: the on-policy distribution, M states per agent."""


def checkpoints(config: Config) -> tuple[int, ...]:
    """The training steps that are examined.

    Raises:
        ConfigError: one of ``evaluate.checkpoints`` is not on the run's schedule.

    """
    wanted = config.evaluate.checkpoints
    return _scheduled(config, wanted, "evaluate.checkpoints") or config.train.schedule


def chosen(config: Config, wanted: Sequence[int], setting: str) -> tuple[int, ...]:
    """Some of the checkpoints: those wanted up to the end of training, or the last if none is.

    Raises:
        ConfigError: one that is wanted is not on the run's schedule.

    """
    within = [step for step in wanted if step <= config.train.steps]
    return _scheduled(config, within, setting) or config.train.schedule[-1:]


def _scheduled(config: Config, wanted: Sequence[int], setting: str) -> tuple[int, ...]:
    """The wanted steps in order, all of them on the schedule."""
    unknown = sorted(set(wanted) - set(config.train.schedule))
    if unknown:
        raise ConfigError(
            f"{setting} names {unknown}; the run has checkpoints at {list(config.train.schedule)}."
        )
    return tuple(sorted(set(wanted)))


def block_size(config: Config, devices: Sequence[jax.Device] | None = None) -> int:
    """Agents in one call: a multiple of the devices that share them."""
    devices = jax.local_devices() if devices is None else devices
    population, wanted = config.train.agents, config.evaluate.agents_at_once
    count = min(len(devices), population, wanted or population)
    if not wanted:
        wanted = 4 * count if devices[0].platform == "cpu" else population
    return -(-min(wanted, population) // count) * count


class Lab:
    """One run's checkpoints at hand.

    Args:
        config: the run's config.
        load: the agents [P, ...] at a training step.

    Attributes:
        environment: the game, in which returns are counted.
        truth: what the learned models are held against, over the same states; see
            ``evaluate.truth``.

    """

    def __init__(self, config: Config, load: Callable[[int], Agent]):
        self.config = config
        self.environment: Environment = envs.make(config.environment)
        learned = config.evaluate.truth == "training"
        self.truth = envs.training_view(self.environment) if learned else self.environment
        self.block: tuple[int, ...] = ()
        self._load = functools.lru_cache(maxsize=16)(load)
        self._programs: dict[Any, Callable[..., Any]] = {}  # the latest last
        self._on_policy: dict[tuple[int, tuple[int, ...]], OnPolicy] = {}

    @property
    def discount(self) -> float:
        """The discount gamma."""
        return self.config.environment.discount

    @property
    def horizon(self) -> int:
        """The longest evaluation horizon h of Figures 3 and 5."""
        return self.config.evaluate.horizon or self.config.loss.unroll

    @property
    def steps(self) -> tuple[int, ...]:
        """The checkpoints that are examined."""
        return checkpoints(self.config)

    def agents(self, step: int) -> Agent:
        """The block's agents at a training step, [B, ...]."""
        index = jnp.asarray(self.block)
        return jax.tree.map(lambda x: jnp.asarray(x)[index], self._load(step))

    def temperature(self, step: int) -> float:
        """T of Equation 1 at a training step."""
        train = self.config.train
        return float(temperature_at(step, train.steps, train.temperatures))

    def keys(self, step: int, purpose: int) -> Key[Array, "B"]:
        """One key per agent of the block, different for every step and purpose."""
        root = jax.random.fold_in(jax.random.key(self.config.evaluate.seed), step)
        root = jax.random.fold_in(root, purpose)
        return jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.asarray(self.block))

    def call(self, one: Callable[..., Any], *per_agent: Any, shared: Sequence[Any] = ()) -> Any:
        """Run one agent's function for the block, in one compiled program.

        Args:
            one: ``one(lab, *per_agent, *shared)`` of a single agent, a function at a module's
                level; the latest programs are kept, see :data:`PROGRAMS`.  It may read the config
                only.
            per_agent: arguments with a leading [B] axis.
            shared: the same for all agents.

        """
        if one in self._programs:
            self._programs[one] = self._programs.pop(one)
        else:
            while len(self._programs) >= PROGRAMS:
                del self._programs[next(iter(self._programs))]
            mesh = agents_mesh(len(self.block))
            platform = mesh.devices.flat[0].platform
            self._programs[one] = over_agents(
                functools.partial(one, self),
                mesh,
                per_agent=len(per_agent),
                in_turn=networks.in_turn(self.config.network, platform),
            )
        return self._programs[one](*per_agent, *shared)

    def on_policy(self, step: int) -> OnPolicy:
        """Episodes and states of the block's pi_MuZero at a training step."""
        key = (step, self.block)
        if key not in self._on_policy:
            self._on_policy[key] = self.call(
                _on_policy, self.agents(step), self.keys(step, 0), shared=(self.temperature(step),)
            )
        return self._on_policy[key]

    def forget(self) -> None:
        """Drop the kept on-policy states; they are drawn alike when asked for again."""
        self._on_policy.clear()

    def table(self, schema: dict[str, pa.DataType], step: int, **columns: Any) -> pa.Table:
        """Rows with ``agent`` and ``step`` filled in.

        Args:
            schema: all columns but the run's settings; the first is ``agent``.
            step: the checkpoint.
            columns: arrays [B, rows per agent], or anything that broadcasts to that.

        """
        given = {name: np.asarray(value) for name, value in columns.items()}
        rows = max(value.shape[-1] for value in given.values() if value.ndim)
        shape = (len(self.block), rows)
        given["agent"] = np.asarray(self.block)[:, None]
        given.setdefault("step", np.asarray(step))
        flat = {
            name: np.broadcast_to(given[name], shape).ravel() for name in schema if name in given
        }
        return tables.make(schema, flat, self.config)


def interleave(parts: Sequence[pa.Table], agents: int) -> pa.Table:
    """Tables of the same agents in the same order, as one with each agent's rows together."""
    sizes = [part.num_rows // agents for part in parts]
    return pa.concat_tables(
        part.slice(i * size, size)
        for i in range(agents)
        for part, size in zip(parts, sizes, strict=True)
    )


def _on_policy(lab: Lab, agent: Agent, key: Key[Array, ""], temperature: Array) -> OnPolicy:
    play_key, draw_key = jax.random.split(key)
    policy = play.muzero_policy(
        lab.environment, agent, lab.config.search, lab.discount, temperature
    )
    episodes = lab.config.evaluate.episodes
    return OnPolicy(
        *play.play_and_draw(
            lab.environment, policy, episodes, lab.config.evaluate.states, play_key, draw_key
        )
    )
