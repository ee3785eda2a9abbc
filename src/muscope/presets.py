"""Named settings per environment.  Where a number comes from stands beside it."""

from __future__ import annotations

from muscope.config import Config
from muscope.errors import ConfigError, nearest
from muscope.training.config import TrainConfig

PRESETS: dict[str, dict[str, Config]] = {
    "cart-pole": {
        # Two CPU cores, minutes.
        "quick": Config(preset="quick"),
        # The paper's scale: 30 agents, 100K training steps (Section 3.1).
        "paper": Config(
            preset="paper",
            train=TrainConfig(
                agents=30,
                steps=100_000,
                checkpoints=(0, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000),
            ),
        ),
    },
}


def preset(environment: str, name: str = "quick") -> Config:
    """The settings called ``name`` for an environment.

    Raises:
        ConfigError: no presets for this environment, or none of this name.

    """
    if environment not in PRESETS:
        raise ConfigError(f"no presets for '{environment}'.{nearest(environment, PRESETS)}")
    if name not in PRESETS[environment]:
        raise ConfigError(f"unknown preset '{name}'.{nearest(name, PRESETS[environment])}")
    return PRESETS[environment][name]
