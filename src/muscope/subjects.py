"""Whom the microscope looks at: what experiments need of an agent's past, and nothing else.

A run of muscope is a subject (:mod:`muscope.run_subject`), the true model is another, and so is
anybody's agent (:func:`subject`).  Experiments know nothing else of where an agent comes from.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muscope import envs, fingerprint, runtime
from muscope.agent import Agent
from muscope.config import EnvironmentConfig, SearchConfig, to_dict
from muscope.config.run import refuse_undiscount
from muscope.envs import Environment
from muscope.errors import ConfigError


class Subject(abc.ABC):
    """A population of agents, as it stood at some training steps.

    Attributes:
        name: of the subject, in tables.
        seed: of the population's training; -1 if muscope did not train it.
        agents: P.
        steps: training steps at which the agents can be had, ascending.
        training_steps: length of the whole training.
        discount: gamma.
        unroll: K, steps that the model was trained to look ahead.
        search: settings of the agents' own search.
        in_turn: whether a device better runs the agents one after the other.

    """

    name: str
    seed: int = -1
    agents: int
    steps: tuple[int, ...]
    training_steps: int
    discount: float
    unroll: int
    search: SearchConfig
    in_turn: bool = False

    @property
    @abc.abstractmethod
    def environment(self) -> Environment:
        """The game, in which returns are counted; agents may have learned its training view."""

    @property
    @abc.abstractmethod
    def environment_name(self) -> str:
        """Its name, which costs no emulator."""

    @abc.abstractmethod
    def load(self, step: int) -> Agent:
        """The agents at a training step, a pytree of [P, ...].

        Raises:
            CheckpointError: they cannot be read.

        """

    def form(self) -> Agent:
        """One agent's arrays as shapes, without reading any if that can be."""
        agents = self.load(self.steps[0])
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), agents)

    @abc.abstractmethod
    def temperature(self, step: int) -> float:
        """T of Equation 1 at a training step."""

    @abc.abstractmethod
    def digest(self, step: int) -> str:
        """Stands for everything that :meth:`load` returns: equal digests, equal agents."""

    @property
    def blocks(self) -> tuple[range, ...]:
        """The agents' numbers by the blocks that they were trained in; results of a block do not
        depend on the others.
        """
        return (range(self.agents),)

    def digest_of(self, step: int, block: range) -> str:
        """As :meth:`digest`, of one of :attr:`blocks`."""
        return self.digest(step)

    def load_block(self, step: int, block: range) -> Agent:
        """As :meth:`load`, of one of :attr:`blocks`."""
        return self.load(step)

    def block_of(self, agent: int) -> range:
        """Which of :attr:`blocks` an agent belongs to."""
        return next(block for block in self.blocks if agent in block)

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What is known of it as JSON, for the record."""

    def clipped(self) -> list[str]:
        """What of the training's rewards and values the agents cannot express, in sentences
        without a full stop, for all figures; none if nothing is known.
        """
        return []

    def scheduled(self, wanted: Sequence[int], setting: str) -> tuple[int, ...]:
        """The wanted steps in order.

        Args:
            wanted: training steps.
            setting: that asks for them, for the message.

        Raises:
            ConfigError: one is not among :attr:`steps`.

        """
        unknown = sorted(set(wanted) - set(self.steps))
        if unknown:
            raise ConfigError(
                f"{setting} names {unknown}; there are checkpoints at {list(self.steps)}."
            )
        return tuple(sorted(set(wanted)))

    def world(self) -> dict[str, Any]:
        """The environment as JSON: all that tells it from another."""
        return fingerprint.of_environment(self.environment)

    def identity(self) -> dict[str, Any]:
        """What results depend on besides the agents themselves."""
        return {
            "environment": self.world(),
            "discount": self.discount,
            "unroll": self.unroll,
            "search": to_dict(self.search),
        }


class GivenSubject(Subject):
    """Agents that somebody hands over; see :func:`subject`."""

    def __init__(
        self,
        agents: Mapping[int, Sequence[Any]],
        environment: Environment,
        *,
        name: str,
        discount: float,
        unroll: int,
        search: SearchConfig,
        temperature: float,
    ):
        self._agents = {step: _stacked(agents[step]) for step in sorted(agents)}
        self._environment = environment
        self._temperature = temperature
        self.name = name
        self.steps = tuple(self._agents)
        self.agents = len(agents[self.steps[0]])
        self.training_steps = max(self.steps[-1], 1)
        self.discount, self.unroll, self.search = discount, unroll, search

    @property
    def environment(self) -> Environment:
        return self._environment

    @property
    def environment_name(self) -> str:
        return self._environment.spec.name

    def load(self, step: int) -> Agent:
        return self._agents[step]

    def temperature(self, step: int) -> float:
        return self._temperature

    def digest(self, step: int) -> str:
        return digest(self._agents[step])

    def settings(self) -> dict[str, Any]:
        return {
            "subject": self.name,
            "agents": self.agents,
            "steps": list(self.steps),
            "temperature": self._temperature,
            **self.identity(),
        }


def subject(
    agents: Any,
    environment: Environment | EnvironmentConfig | str,
    *,
    name: str = "subject",
    discount: float = 0.997,
    unroll: int = 5,
    search: SearchConfig | None = None,
    temperature: float = 0.25,
) -> Subject:
    """Anybody's agents as a subject.

    Args:
        agents: one agent, several of one kind (with arrays of equal shapes), or either by training
            step (1 if none is given; 0 means untrained).  An agent is a pytree with ``represent``,
            ``step`` and ``predict``; see :class:`muscope.agent.Agent`.  One with a function
            ``members`` stands for several.
        environment: the true environment, or its name or settings.
        name: for tables and the report.
        discount: gamma that the agents were trained with.
        unroll: K, steps that the model was trained to look ahead; the longest horizon of value
            errors by default.
        search: settings of the agents' own search.
        temperature: T of Equation 1 at which they act.

    Raises:
        ConfigError: no agents, not the same number at every step, or agents of different kinds.

    """
    runtime.start()
    if isinstance(environment, str | EnvironmentConfig):
        environment = envs.make(environment)
    by_step = agents if isinstance(agents, Mapping) else {1: agents}
    populations = {step: _population(given) for step, given in by_step.items()}
    sizes = {len(population) for population in populations.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise ConfigError(
            f"a subject needs equally many agents at every step, not {sorted(sizes)}."
        )
    if any(not isinstance(s, int | np.integer) or isinstance(s, bool) or s < 0 for s in by_step):
        raise ConfigError(
            f"a subject's training steps must be whole numbers of at least 0, not {list(by_step)}."
        )
    if not 0 < discount <= 1:
        raise ConfigError(f"a subject's discount must lie in (0, 1], not {discount}.")
    if not temperature > 0:
        raise ConfigError(f"a subject's temperature must be positive, not {temperature}.")
    if not isinstance(unroll, int) or unroll < 1:
        raise ConfigError(f"a subject's unroll must be a whole number of at least 1, not {unroll}.")
    search = search or SearchConfig(simulations=50)
    refuse_undiscount("search.simulations", search.simulations, discount)
    return GivenSubject(
        {int(step): population for step, population in populations.items()},
        environment,
        name=name,
        discount=discount,
        unroll=unroll,
        search=search,
        temperature=temperature,
    )


def _population(given: Any) -> list[Any]:
    """The agents one by one; some kinds of agent stand for a whole population."""
    if isinstance(given, list) or type(given) is tuple:
        return list(given)
    return given.members() if callable(getattr(given, "members", None)) else [given]


def _stacked(agents: Sequence[Any]) -> Agent:
    """Agents as one, with a leading [P] axis on every array.

    Raises:
        ConfigError: they are no agents, no pytrees of arrays, or of different kinds.

    """
    for agent in agents:
        refuse_what_is_no_agent(agent)
    structures = {jax.tree.structure(agent) for agent in agents}
    shapes = {tuple(np.shape(x) for x in jax.tree.leaves(agent)) for agent in agents}
    if len(structures) > 1 or len(shapes) > 1:
        raise ConfigError(
            "the agents of a subject must be of one kind, with arrays of equal shapes."
        )
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *agents)


def refuse_what_is_no_agent(agent: Any) -> None:
    """Raise if something has not the form of an agent.

    Raises:
        ConfigError: it lacks a function, or is no pytree of arrays.

    """
    kind = type(agent).__name__
    for name in ("represent", "step", "predict"):
        if not callable(getattr(agent, name, None)):
            raise ConfigError(f"{kind} is no agent: it has no function '{name}'.")
    leaves = jax.tree.leaves(agent)
    if len(leaves) == 1 and leaves[0] is agent:
        raise ConfigError(
            f"{kind} is no pytree, so a population of it cannot be compiled; make it an "
            "equinox.Module, a NamedTuple, or register it with jax.tree_util."
        )
    for leaf in leaves:
        try:
            numeric = np.asarray(leaf).dtype.kind in "biufV" or hasattr(leaf, "dtype")
        except (TypeError, ValueError):
            numeric = False
        if not numeric:
            raise ConfigError(
                f"{kind} holds {type(leaf).__name__} among its arrays; mark it static "
                "(equinox.field(static=True)), or take arrays and functions apart "
                "(muscope.agent.FunctionAgent)."
            )


def digest(tree: Any) -> str:
    """SHA-256 of a pytree's arrays and their places, and of the code that it brings along."""
    structure = re.sub(r" at 0x[0-9a-f]+", "", str(jax.tree.structure(tree)))
    total = hashlib.sha256(structure.encode())
    total.update(json.dumps(fingerprint.of_code(*_static(tree))).encode())
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    for path, leaf in leaves:
        array = np.asarray(leaf)
        name = jax.tree_util.keystr(path)
        total.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        total.update(np.ascontiguousarray(array).tobytes())
    # Some parameters live elsewhere, as PyTorch's do.
    for part in jax.tree.leaves(tree, is_leaf=_has_digest):
        if _has_digest(part):
            total.update(part.digest().encode())
    return total.hexdigest()


def _static(part: Any) -> list[Any]:
    """The classes of a pytree's parts, and what they hold besides arrays."""
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return [type(part)]
    values = [getattr(part, field.name) for field in dataclasses.fields(part)]
    functions = [value for value in values if callable(value)]
    return [type(part), *functions, *(inner for value in values for inner in _static(value))]


def _has_digest(part: Any) -> bool:
    return callable(getattr(part, "digest", None))


__all__ = ["Subject", "digest", "subject"]
