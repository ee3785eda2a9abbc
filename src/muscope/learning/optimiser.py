"""The optimiser and its learning-rate schedule."""

from __future__ import annotations

import optax

from muscope.agent import standardise
from muscope.config import OptimiserConfig


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
