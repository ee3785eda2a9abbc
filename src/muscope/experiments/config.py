"""Settings of the experiments."""

from __future__ import annotations

from dataclasses import dataclass

from muscope.errors import ConfigError


@dataclass(frozen=True)
class EvaluateConfig:
    """How checkpoints are examined.  No exploration noise is ever used here."""

    episodes: int = 20
    """Episodes per agent, checkpoint and policy in Figure 2."""
    seed: int = 1
    """Seed of all evaluation randomness; independent of training."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ConfigError("evaluate.episodes must be at least 1.")
        if not 0 <= self.seed < 2**32:
            raise ConfigError("evaluate.seed must lie in 0..2^32 - 1.")
