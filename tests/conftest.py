"""Shapes are checked by jaxtyping and beartype (pyproject.toml turns them on)."""

import gc

import jax
import pytest

from muscope import runtime
from muscope.config import (
    Config,
    EvaluateConfig,
    LossConfig,
    NetworkConfig,
    ReplayConfig,
    SearchConfig,
    TrainConfig,
)

# Files that take minutes, the longest first: begun last, one would keep one worker busy alone.
LONG = (
    *("lunar_lander_lanes", "lunar_lander_bits", "lunar_lander_world", "breakout_run", "cluster"),
    *("examples", "planning", "damage", "surroundings", "mutations", "health", "blocks"),
)

# Two simulated devices: populations are split over them as they would be over GPUs.
jax.config.update("jax_num_cpu_devices", 2)
runtime.prepare()


def pytest_collection_modifyitems(items):
    """Long files first; all others keep their order."""

    def place(item):
        name = item.path.stem.removeprefix("test_")
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=place)


@pytest.fixture(scope="module", autouse=True)
def programs_of_one_module():
    """Compiled programs are dropped after each module: a process that keeps Lunar Lander's runs
    out of memory maps (see :data:`muscope.experiments.lab.MAPS`).
    """
    yield
    gc.collect()
    jax.clear_caches()


@pytest.fixture
def tiny() -> Config:
    """A whole run in seconds; far too small to learn anything."""
    return tiny_config()


@pytest.fixture(scope="module")
def module_tiny() -> Config:
    """The same, for fixtures that a whole module shares."""
    return tiny_config()


def tiny_config() -> Config:
    return Config(
        preset="tiny",
        network=NetworkConfig(width=8, latent=8, value_bins=9, reward_bins=5),
        search=SearchConfig(simulations=4),
        replay=ReplayConfig(capacity=256, start=16),
        loss=LossConfig(unroll=3, n_step=3),
        train=TrainConfig(
            agents=2,
            steps=24,
            lanes=2,
            updates_per_round=2,
            batch_size=8,
            reanalyse_ratio=1.0,
            checkpoints=(0, 8),
            rounds_per_call=4,
        ),
        evaluate=EvaluateConfig(episodes=2, states=4),
        experiments={
            "figure3": {"sequences": 3},
            "endings": {"sequences": 3},
            "figure4": {"horizon": 3},
            "figure5": {"sequences": 3},
            "figure6": {"simulations": 4, "horizon": 4},
            "figure7": {"checkpoints": [8], "simulations": [1, 3], "horizon": 4, "episodes": 2},
            "decisions": {
                **{"checkpoints": [8], "simulations": 3, "horizon": 4},
                **{"q_horizon": 5, "sequences": 3},
            },
        },
    )
