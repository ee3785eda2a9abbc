"""A population in one compiled program: vmapped over agents, sharded over devices."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from muscope.config import Config
from muscope.training.agent import AgentProgram, AgentState, RoundMetrics


class Population:
    """P agents that never talk to each other.

    The agents' axis is split over as many local devices as divide P; each device runs
    its agents' program without communication.
    """

    def __init__(self, config: Config, devices: list[jax.Device] | None = None):
        self.config = config
        self.program = AgentProgram(config)
        devices = jax.local_devices() if devices is None else devices
        count = max(n for n in range(1, len(devices) + 1) if config.train.agents % n == 0)
        self.mesh = jax.sharding.Mesh(np.array(devices[:count]), ("agents",))
        self.sharding = NamedSharding(self.mesh, PartitionSpec("agents"))

    def initial(self) -> AgentState:
        """All agents untrained, [P] in front, laid out over the devices."""
        root = jax.random.key(self.config.train.seed)
        numbers = jnp.arange(self.config.train.agents)

        def make(numbers):
            keys = jax.vmap(lambda n: jax.random.fold_in(root, n))(numbers)
            return jax.vmap(self.program.initial)(keys)

        return jax.jit(make, out_shardings=self.sharding)(numbers)

    def place(self, state: AgentState) -> AgentState:
        """A state read from disk, laid out over the devices."""
        return jax.device_put(state, self.sharding)

    @functools.cached_property
    def _advance(self):
        rounds = self.config.train.rounds_per_call
        agents = PartitionSpec("agents")

        def call(state, first):
            one = lambda s: self.program.run(s, first, rounds)  # noqa: E731
            state, metrics = jax.vmap(one)(state)
            return state, jax.tree.map(lambda x: jnp.sum(x, axis=1), metrics)

        sharded = jax.shard_map(
            call,
            mesh=self.mesh,
            in_specs=(agents, PartitionSpec()),
            out_specs=(agents, agents),
            check_vma=False,
        )
        return jax.jit(sharded, donate_argnums=0)

    def advance(self, state: AgentState, first: int) -> tuple[AgentState, RoundMetrics]:
        """``rounds_per_call`` rounds from number ``first``; metrics are sums, [P].

        ``state`` is donated: do not use it again.
        """
        return self._advance(state, jnp.int32(first))
