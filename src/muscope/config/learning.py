"""Settings of replay, loss and optimiser."""

from __future__ import annotations

from dataclasses import dataclass

from muscope.config.base import (
    Lookahead,
    Names,
    Positive,
    PositiveShare,
    Rows,
    Settings,
    Share,
    Step,
    Weight,
)
from muscope.errors import ConfigError


@dataclass(frozen=True)
class ReplayConfig(Settings):
    """How experience is kept and drawn."""

    section = "replay"

    capacity: Rows = 100_000
    """Rows kept per agent; the oldest are overwritten."""
    start: Rows = 200
    """Rows gathered before the first update, rounded up to whole calls of the program."""
    priority_exponent: Share = 0.6
    """alpha: 0 draws uniformly, 1 in proportion to priority."""
    importance_exponent: Share = 0.4
    """beta at the start of training; it rises linearly to 1 at the end."""
    priority_floor: Positive = 0.01
    """Added to |predicted - target value|, so that no row starves."""

    def check(self) -> None:
        if self.start > self.capacity:
            raise ConfigError("replay.start must not exceed replay.capacity.")


@dataclass(frozen=True)
class LossConfig(Settings):
    """The loss and its targets."""

    section = "loss"

    unroll: Lookahead = 10
    """K, steps the model is unrolled."""
    n_step: Lookahead = 10
    """n, real rewards before the bootstrap from v^MCTS."""
    value_weight: Weight = 0.25
    """Weight of the value term; MuZero Reanalyse uses 0.25."""
    reward_weight: Weight = 1.0
    """Weight of the reward term."""
    policy_weight: Weight = 1.0
    """Weight of the policy term."""
    gradient_scale: Share = 0.5
    """Factor of the gradient that flows back from a latent state into the dynamics that made
    it; MuZero halves it, which leaves 1/1000 of it after ten steps."""
    unroll_weight: Weight = 1.0
    """Weight of the K unrolled steps together; the root weighs 1.  1 is MuZero's 1/K each."""
    terms: Names = ()
    """Auxiliary losses beside MuZero's own: consistency, distance, reconstruction, or your own
    (FILE.py:NAME, package.module:NAME); each has settings of its own, terms.NAME."""


@dataclass(frozen=True)
class OptimiserConfig(Settings):
    """AdamW with clipping, a short warm-up and a cosine decay over all of training."""

    section = "optimiser"

    learning_rate: PositiveShare = 2e-3
    """Peak learning rate."""
    final_fraction: Share = 0.05
    """Learning rate at the end of training, as a fraction of the peak."""
    warmup: Step = 100
    """Training steps of linear warm-up from 0."""
    weight_decay: Share = 1e-4
    """Decoupled weight decay."""
    clip: Positive = 5.0
    """Greatest global gradient norm."""
    average_rate: PositiveShare = 0.02
    """Share of the new parameters in the moving average that acts, reanalyses and is kept in
    checkpoints; 1 keeps no average."""
