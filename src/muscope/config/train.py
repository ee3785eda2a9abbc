"""Settings of acting, Reanalyse and the schedule of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import tyro

from muscope.config.base import (
    Agents,
    Checkpoints,
    Count,
    NonNegative,
    Seed,
    Settings,
    Steps,
    Temperatures,
    Whole,
    within,
)
from muscope.errors import ConfigError

TEMPERATURES = (1.0, 0.5, 0.25)
"""The usual schedule: these values up to 1/2, up to 3/4, and to the end of training."""


@dataclass(frozen=True)
class TrainConfig(Settings):
    """The training loop.  One *round* is one environment step in every lane, one search over
    those lanes and the reanalysed positions, and ``updates_per_round`` gradient updates.
    """

    section = "train"

    agents: Annotated[Agents, tyro.conf.arg(aliases=["--agents"])] = 4
    """P, agents trained side by side; they differ in their random numbers only."""
    steps: Annotated[Steps, tyro.conf.arg(aliases=["--steps"])] = 5_000
    """Training steps; one is one gradient update."""
    seed: Annotated[Seed, tyro.conf.arg(aliases=["--seed"])] = 0
    """Seed of the population; agent i's randomness depends on (seed, i) alone."""
    block: Annotated[int, *within(0, 10_000)] = 0
    """Agents that are trained together, in one program and with one saved state; 0 for all that a
    run begins with.  A run grows by blocks, and their agents' bits depend on their size."""
    lanes: Count = 4
    """Environments each agent acts in."""
    updates_per_round: Count = 4
    """Gradient updates per round; divided by ``lanes``, updates per environment step."""
    batch_size: Count = 64
    """B, positions per update."""
    reanalyse_ratio: NonNegative = 8.0
    """Old positions whose search is run again with the current (averaged) network, per
    environment step."""
    temperatures: Temperatures = TEMPERATURES
    """T of Equation 1 up to 1/2, up to 3/4 and to the end of training."""
    cold_lanes: Whole = 0
    """Lanes that act at the last of ``temperatures`` from the start, so that the data hold what
    a nearly greedy policy meets, besides what exploration does."""
    checkpoints: Checkpoints = (0, 500, 1_000, 2_000, 5_000)
    """Training steps at which every agent's parameters are kept; those up to ``steps``,
    and ``steps`` itself."""
    rounds_per_call: Annotated[int, *within(1, 10_000)] = 25
    """Most rounds in one call of the compiled program; a run stops and resumes between calls,
    every checkpoint ends a call, and the warm-up is a whole number of calls."""
    save_seconds: NonNegative = 60.0
    """Least seconds between two saves of the full resumable state."""

    @property
    def reanalysed_per_round(self) -> int:
        return round(self.reanalyse_ratio * self.lanes)

    @property
    def block_size(self) -> int:
        """Agents of a block to come: all that there are, if nothing else is said."""
        return self.block or self.agents

    @property
    def schedule(self) -> tuple[int, ...]:
        """The steps that get a checkpoint, sorted, the last one being ``steps``."""
        return tuple(sorted({s for s in self.checkpoints if s <= self.steps} | {self.steps}))

    @property
    def call_rounds(self) -> int:
        """Rounds per call: at most ``rounds_per_call``, and every checkpoint ends a call."""
        rounds = math.gcd(*(step // self.updates_per_round for step in self.schedule))
        return max(n for n in range(1, min(self.rounds_per_call, rounds) + 1) if rounds % n == 0)

    def check(self) -> None:
        if self.cold_lanes > self.lanes:
            raise ConfigError(f"train.cold_lanes must lie in 0..train.lanes ({self.lanes}).")
        wanted = self.reanalyse_ratio * self.lanes
        if abs(wanted - round(wanted)) > 1e-9:
            raise ConfigError(
                f"train.reanalyse_ratio * train.lanes is {wanted}; it must be a whole number."
            )
        for step in self.schedule:
            if step % self.updates_per_round:
                raise ConfigError(
                    f"checkpoint step {step} is not a multiple of train.updates_per_round "
                    f"({self.updates_per_round}); move it, or change train.steps."
                )
