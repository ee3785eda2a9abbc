"""The optimiser and its learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass

import optax

from muscope.agent import standardise
from muscope.errors import ConfigError


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with clipping, a short warm-up and a cosine decay over all of training."""

    learning_rate: float = 2e-3
    """Peak learning rate."""
    final_fraction: float = 0.05
    """Learning rate at the end of training, as a fraction of the peak."""
    warmup: int = 100
    """Training steps of linear warm-up from 0."""
    weight_decay: float = 1e-4
    """Decoupled weight decay."""
    clip: float = 5.0
    """Greatest global gradient norm."""
    average_rate: float = 0.02
    """Share of the new parameters in the moving average that acts, reanalyses and is kept in
    checkpoints; 1 keeps no average."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.clip <= 0:
            raise ConfigError("optimiser.learning_rate and optimiser.clip must be positive.")
        if not 0 < self.average_rate <= 1:
            raise ConfigError("optimiser.average_rate must lie in (0, 1].")
        if not 0 <= self.final_fraction <= 1 or self.weight_decay < 0 or self.warmup < 0:
            raise ConfigError(
                "optimiser.final_fraction must lie in [0, 1]; weight_decay and warmup be >= 0."
            )


def make(config: OptimiserConfig, steps: int) -> optax.GradientTransformation:
    """The optimiser for a run of ``steps`` training steps."""
    warmup = min(config.warmup, max(steps - 1, 0))
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup else config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=steps,
        end_value=config.learning_rate * config.final_fraction,
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(schedule, weight_decay=config.weight_decay, mask=standardise.trained),
    )
