"""Settings of the experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from muscope.errors import ConfigError


@dataclass(frozen=True)
class EvaluateConfig:
    """How checkpoints are examined.  No exploration noise is ever used here."""

    checkpoints: tuple[int, ...] = ()
    """Training steps to examine; empty for all of the run's checkpoints."""
    episodes: int = 20
    """Episodes per agent, checkpoint and policy in Figure 2; those of MCTS are also the pool
    that states are drawn from (the on-policy distribution of Figures 3 to 6)."""
    states: int = 64
    """M, states per agent and checkpoint in Figures 3 to 5."""
    sequences: int = 32
    """R, Monte Carlo action sequences per state in Figures 3 and 5."""
    horizon: int = 0
    """h, the longest horizon in Figures 3 and 5; 0 for K (loss.unroll), as in the paper."""
    sequence_horizon: int = 8
    """h of Figure 4, which scores all A^h action sequences."""
    search_checkpoints: tuple[int, ...] = ()
    """Training steps of Figure 6; those up to train.steps, or the last one if none is."""
    search_simulations: int = 64
    """N of Figure 6."""
    planning_checkpoints: tuple[int, ...] = ()
    """Training steps of Figure 7, one panel each, and of the decisions behind it; those up to
    train.steps, or the last one if none is."""
    planning_simulations: tuple[int, ...] = (1, 4, 16, 64)
    """Simulations per move in Figure 7, ascending; decisions use the last."""
    planning_horizon: int = 16
    """H of Figures 6 and 7, counted from the root: tree depth plus rollout length."""
    planning_leaves: tuple[str, ...] = ("rollout", "value")
    """How Figure 7 values leaves: rollout (the paper), value (the value network), or both."""
    planning_steps: int = 0
    """Most moves of an episode in Figure 7, whose return is then of these; 0 for the time limit."""
    planning_episodes: int = 10
    """Episodes per agent, checkpoint and planner in Figure 7."""
    decision_horizon: int = 100
    """Steps after a decision for which the true return under the policy prior is counted."""
    agents_at_once: int = 0
    """Agents in one call of a compiled program; 0 for 4 per CPU core, or all on a GPU."""
    truth: Literal["training", "game"] = "training"
    """What models are held against, and what the true model in a search is: the problem that the
    agents learned (in Atari with clipped rewards, and over when a life is lost), or the game
    itself, whose other rewards and further lives then count as errors of the model.  Returns are
    always the game's."""
    seed: int = 1
    """Seed of all evaluation randomness; independent of training."""

    def __post_init__(self) -> None:
        for name in ("episodes", "states", "sequences", "sequence_horizon"):
            if getattr(self, name) < 1:
                raise ConfigError(f"evaluate.{name} must be at least 1.")
        for name in (
            "search_simulations",
            "planning_horizon",
            "planning_episodes",
            "decision_horizon",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"evaluate.{name} must be at least 1.")
        budgets = self.planning_simulations
        if not budgets or budgets[0] < 1 or list(budgets) != sorted(set(budgets)):
            raise ConfigError(
                "evaluate.planning_simulations must be ascending numbers of at least 1."
            )
        if not self.planning_leaves or set(self.planning_leaves) - {"rollout", "value"}:
            raise ConfigError("evaluate.planning_leaves must be of 'rollout' and 'value'.")
        for name in ("horizon", "planning_steps", "agents_at_once"):
            if getattr(self, name) < 0:
                raise ConfigError(f"evaluate.{name} must not be negative.")
        if not 0 <= self.seed < 2**32:
            raise ConfigError("evaluate.seed must lie in 0..2^32 - 1.")
