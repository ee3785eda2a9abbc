"""The agents of one of muscope's own runs, as experiments see them."""

from __future__ import annotations

import functools
import hashlib
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from muscope import envs, fingerprint, plugins
from muscope.agent import Agent, networks
from muscope.agent.networks import MuZero
from muscope.config import EnvironmentConfig, to_dict, trained_alike
from muscope.config.base import from_dict
from muscope.envs import Environment
from muscope.envs.registry import label, resolved_options
from muscope.errors import CheckpointError, ConfigError
from muscope.search import temperature_at
from muscope.storage import checkpoint
from muscope.storage.block import Block
from muscope.storage.run import Run
from muscope.subjects import Subject
from muscope.training.health import COUNTED, GREATEST, Watch


class RunSubject(Subject):
    """The agents of one of muscope's own runs.

    Args:
        run: trained, at least up to the steps that are asked for.

    """

    def __init__(self, run: Run):
        config = run.config
        self.run = run
        self.config = config
        self.name = config.preset
        self.seed = config.train.seed
        self.agents = config.train.agents
        self.steps = config.train.schedule
        self.training_steps = config.train.steps
        self.discount = config.environment.discount
        self.unroll = config.loss.unroll
        self.search = config.search

    @property
    def in_turn(self) -> bool:  # type: ignore[override]
        return networks.in_turn(self.config.network, jax.default_backend())

    @property
    def environment(self) -> Environment:
        return envs.make(self.config.environment)

    @property
    def environment_name(self) -> str:
        return label(self.config.environment)

    def world(self) -> dict[str, Any]:
        # From the config, because an environment may be slow to make, or its file be gone.
        environment, kind = self.config.environment, self.config.network.kind
        options = {k: v for k, v in environment.options.items() if k != "host"}
        files = [plugins.file_of(name) for name in (environment.name, kind)]
        digests = [fingerprint.of_file(file) for file in files if file]
        return {"name": environment.name, "options": options, "files": digests}

    def form(self) -> Agent:
        config, spec = self.config.network, self.environment.spec
        return jax.eval_shape(lambda key: networks.build(config, spec, key), jax.random.key(0))

    def load(self, step: int) -> Agent:
        parts = [self.load_block(step, block) for block in self.blocks]
        return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts)

    def load_block(self, step: int, block: range) -> Agent:
        return self._load(self._block(block), step)

    def _load(self, block: Block, step: int) -> Agent:
        config, path = self.config, block.checkpoint_path(step)
        described = self._described(len(block.agents))
        agents, header = checkpoint.read(path, described, checkpoint.AGENTS_FORMAT)
        if header["step"] != step or not trained_alike(_resolved(header["config"]), config):
            raise CheckpointError(
                f"{path} belongs to another run or training step; put this run's file back, "
                "or delete it and train again."
            )
        first, count = header.get("agents") or (0, len(block.agents))
        if range(first, first + count) != block.agents:
            raise CheckpointError(
                f"{path} holds agents {first}..{first + count - 1}; its place is for "
                f"{block.agents.start}..{block.agents.stop - 1}. Put this block's file back."
            )
        return agents

    @property
    def blocks(self) -> tuple[range, ...]:
        return tuple(block.agents for block in self.run.blocks())

    def _described(self, agents: int) -> MuZero:
        """The shapes and supports of some agents, [agents, ...]."""
        spec = self.environment.spec
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), agents))
        build = functools.partial(networks.build, self.config.network, spec)
        return jax.eval_shape(jax.vmap(build), keys)

    def temperature(self, step: int) -> float:
        train = self.config.train
        return float(temperature_at(step, train.steps, train.temperatures))

    def digest(self, step: int) -> str:
        return hashlib.sha256(
            "".join(self.digest_of(step, block) for block in self.blocks).encode()
        ).hexdigest()

    def digest_of(self, step: int, block: range) -> str:
        path = self._block(block).checkpoint_path(step)
        return checkpoint.read_header(path, checkpoint.AGENTS_FORMAT)["digest"]

    def _block(self, agents: range) -> Block:
        return next(block for block in self.run.blocks() if block.agents == agents)

    def clipped(self) -> list[str]:
        there = [step for step in self.steps if step in self.run.steps()]
        if not there:
            return []
        agent = self._described(1)
        supports = agent.value_support, agent.reward_support
        headers = [
            checkpoint.read_header(block.checkpoint_path(there[-1]), checkpoint.AGENTS_FORMAT)
            for block in self.run.blocks()
        ]
        seen = [header["seen"] for header in headers if "seen" in header]
        joined = {
            name: list(itertools.chain.from_iterable(of[name] for of in seen))
            for name in (*COUNTED, *GREATEST)
        }
        return Watch(supports, range(self.agents), joined if seen else None).clipped()

    def settings(self) -> dict[str, Any]:
        settings = to_dict(self.config)
        del settings["evaluate"], settings["experiments"]
        # A run may grow; what its agents are does not depend on how many there are.
        del settings["train"]["agents"], settings["train"]["block"]
        return settings


def _resolved(written: dict[str, Any]) -> dict[str, Any]:
    """A written config with the environment's options that have been added since."""
    try:
        environment = from_dict(written["environment"], EnvironmentConfig)
        options = resolved_options(environment)
    except (ConfigError, KeyError):
        return written  # Another run's; the comparison says so.
    plain = {k: v for k, v in options.items() if k != "host"}
    return {**written, "environment": {**written["environment"], "options": plain}}
