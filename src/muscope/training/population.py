"""A population in one compiled program: vmapped over agents, sharded over devices."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key

from muscope.agent import networks
from muscope.agent.support import Support
from muscope.config import Config
from muscope.room import Part, nbytes, refuse, total
from muscope.runtime import AGENTS, agents_mesh, filled_up, map_agents
from muscope.training import health, memory
from muscope.training.agent import AgentProgram, AgentState, RoundMetrics


class Population:
    """P agents that never talk to each other.

    The agents' axis is split over the local devices, each with equally many: repetitions of the
    last agent fill the program up (:func:`muscope.runtime.filled_up`).  Each device runs the
    program of its agents without communication.

    Args:
        config: of the run.
        devices: this machine's by default.
        agents: their numbers, a block of the run's; all by default.  Another block of as many may
            take their place, with the same compiled programs.

    """

    def __init__(
        self,
        config: Config,
        devices: list[jax.Device] | None = None,
        agents: range | None = None,
    ):
        self.config = config
        self.agents = range(config.train.agents) if agents is None else agents
        self.program = AgentProgram(config)
        self.size = filled_up(len(self.agents), devices)
        """P, and what fills up."""
        self.mesh = agents_mesh(self.size, devices)
        self._device = self.mesh.devices.flat[0]
        self._in_turn = networks.in_turn(config.network, self._device.platform)

    @functools.cached_property
    def _initial(self):
        return map_agents(self.program.initial, self.mesh, per_agent=1, in_turn=self._in_turn)

    @functools.cached_property
    def _advance(self):
        def call(state: AgentState, first: Int[Array, ""]):
            state, metrics = self.program.run(state, first, self.config.train.call_rounds)
            return state, jax.tree.map(jnp.sum, metrics)

        return map_agents(call, self.mesh, per_agent=1, donate=True, in_turn=self._in_turn)

    @functools.cached_property
    def _health(self):
        of_one = functools.partial(health.health, self.config)
        return map_agents(of_one, self.mesh, per_agent=1, in_turn=self._in_turn)

    def health(self, state: AgentState) -> health.Health:
        """How all agents are after a call, [P]."""
        return self.own(self._health(state))

    def supports(self) -> tuple[Support, Support]:
        """Those of the agents' heads, (value, reward)."""
        agent = jax.eval_shape(self.program.initial, jax.random.key(0)).agent
        return agent.value_support, agent.reward_support

    def replay_bytes(self) -> int:
        """Bytes of all agents' replays."""
        described = jax.eval_shape(self.program.initial, jax.random.key(0))
        return self.size * nbytes(described.replay)

    def memory(self) -> list[Part]:
        """What training takes of one device's memory; see :mod:`muscope.training.memory`."""
        kept, working = memory.of_one_agent(self.program)
        agents, devices = self.size, self.mesh.size
        # CPU devices share one memory.
        shared = self._device.platform == "cpu"
        share = agents if shared else agents // devices
        at_once = (devices if shared else 1) if self._in_turn else share
        kept, working = _times(kept, share), _times(working, at_once)
        if not shared:
            return [*kept, *working]
        return [
            *kept,
            *memory.of_host(self.config),
            *max(working, memory.saving(kept), key=total),
        ]

    def refuse_what_does_not_fit(self) -> str:
        """The memory that training takes, in words.

        Raises:
            ConfigError: it is more than there is.

        """
        return refuse("training", self.memory(), self._device)

    def agent_keys(self) -> Key[Array, "P"]:
        """Agent i's key depends on the run's seed and on i, not on who trains beside it."""
        root = jax.random.key(self.config.train.seed)
        return jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.asarray(self.agents))

    def initial(self) -> AgentState:
        """All agents untrained, [size] in front, laid out over the devices."""
        place = jnp.minimum(jnp.arange(self.size), len(self.agents) - 1)
        return self._initial(self.agent_keys()[place])

    def own(self, of_all: Any) -> Any:
        """Without what fills up: [size] in front becomes [P]."""
        agents = len(self.agents)
        return of_all if agents == self.size else jax.tree.map(lambda x: x[:agents], of_all)

    def place(self, state: AgentState) -> AgentState:
        """A state read from disk, laid out over the devices."""
        return jax.device_put(state, NamedSharding(self.mesh, PartitionSpec(AGENTS)))

    def advance(self, state: AgentState, first: int) -> tuple[AgentState, RoundMetrics]:
        """``train.call_rounds`` rounds from number ``first``; metrics are sums, [P].

        ``state`` is donated: do not use it again.
        """
        state, metrics = self._advance(state, jnp.int32(first))
        return state, self.own(metrics)

    def training_step(self, rounds: int) -> int:
        """Updates done after ``rounds`` rounds."""
        return max(rounds - self.program.warmup_rounds, 0) * self.config.train.updates_per_round


def _times(parts: list[Part], count: int) -> list[Part]:
    return [part._replace(size=count * part.size) for part in parts]
