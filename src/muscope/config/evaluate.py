"""Settings that all experiments share: whom they look at, and from which states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from muscope.config.base import Checkpoints, Count, Seed, Settings, within


@dataclass(frozen=True)
class EvaluateConfig(Settings):
    """How checkpoints are examined.  No exploration noise is ever used here."""

    section = "evaluate"

    checkpoints: Checkpoints = ()
    """Training steps to examine; empty for all of the run's checkpoints."""
    episodes: Count = 20
    """Episodes of MCTS per agent and checkpoint: Figure 2 scores them (and as many of the policy
    prior), and they are the pool that states are drawn from (the on-policy distribution)."""
    states: Count = 64
    """M, on-policy states per agent and checkpoint."""
    agents_at_once: Annotated[int, *within(0, 10_000)] = 0
    """The most agents in one call of a compiled program; 0 for 4 per CPU core, or all on a GPU."""
    truth: Literal["training", "game"] = "training"
    """What models are held against, and what the true model in a search is: the problem that the
    agents learned (in Atari with clipped rewards, and over when a life is lost), or the game
    itself, whose other rewards and further lives then count as errors of the model.  Returns are
    always the game's."""
    seed: Seed = 1
    """Seed of all evaluation randomness; independent of training."""
