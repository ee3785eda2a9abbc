"""Breakout, and any other Atari game: the paper's setup, and what smaller machines bear."""

from __future__ import annotations

import dataclasses
from typing import Any

from muscope.config import (
    Config,
    EnvironmentConfig,
    EvaluateConfig,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    ReplayConfig,
    SearchConfig,
    TrainConfig,
)
from muscope.presets.looks import looks

# Not EfficientZero's: without it a greedy policy waits for a ball that it never serves.
_FIRE: dict[str, Any] = {"fire": True}
# Breakout as the paper has it ("the same setup as EfficientZero"), without EfficientZero's own
# additions.  Where we differ (the optimiser, the replay ratio) docs/choices.md says so.
_BREAKOUT = Config(
    environment=EnvironmentConfig("breakout", discount=0.997**4, options=_FIRE),
    # Rewards are clipped to their sign and values stay below h(300), 17.
    network=NetworkConfig(
        kind="resnet",
        width=32,
        channels=64,
        head_channels=16,
        value_limit=20.0,
        value_bins=81,
        reward_limit=1.0,
        reward_bins=11,
    ),
    search=SearchConfig(simulations=50, dirichlet_alpha=0.3, dirichlet_fraction=0.25),
    loss=LossConfig(unroll=5, n_step=5),
    optimiser=OptimiserConfig(learning_rate=8e-4, average_rate=0.02),
)
# On less hardware than the paper's: a smaller network, fewer simulations, grey pictures (set
# below), and a loss as on the other environments.
_BREAKOUT_SMALL = dataclasses.replace(
    _BREAKOUT,
    # With a reward every eight moves values reach 11; h(24) is 4.
    network=dataclasses.replace(_BREAKOUT.network, channels=32, value_limit=4.0),
    search=dataclasses.replace(_BREAKOUT.search, simulations=16, dirichlet_alpha=0.5),
    loss=LossConfig(unroll=5, n_step=10, value_weight=1.0, unroll_weight=4.0, gradient_scale=1.0),
)
# Every simulation in the true model costs 33 emulator steps: a game of 3,000 moves with 16
# simulations takes 7 minutes of a core.
_BREAKOUT_LOOKS: dict[str, Any] = {"every": 4, "horizon": 32, "simulations": (1, 4, 16)}

PRESETS: dict[str, Config] = {
    # Two CPU cores, 40 minutes with all figures.
    "quick": dataclasses.replace(
        _BREAKOUT_SMALL,
        preset="quick",
        environment=EnvironmentConfig(
            "breakout",
            discount=0.997**4,
            options={**_FIRE, "frame_size": 48, "colour": "grey", "time_limit": 1_000},
        ),
        optimiser=OptimiserConfig(learning_rate=1e-3, average_rate=0.02),
        replay=ReplayConfig(capacity=100_000, start=2_000),
        train=TrainConfig(
            agents=2,
            steps=8_000,
            lanes=32,
            updates_per_round=2,
            batch_size=64,
            reanalyse_ratio=0.0,
            checkpoints=(0, 1_000, 4_000, 8_000),
            save_seconds=300.0,
        ),
        evaluate=EvaluateConfig(episodes=30, states=32),
        experiments=looks(
            **_BREAKOUT_LOOKS,
            sequences=16,
            search=(8_000,),
            search_simulations=32,
            planning=(8_000,),
            moves=400,
            episodes=3,
            q_horizon=50,
        ),
    ),
    # The best score in 25 minutes on one data-centre GPU, by estimate.
    "gpu": dataclasses.replace(
        _BREAKOUT_SMALL,
        preset="gpu",
        environment=EnvironmentConfig(
            "breakout", discount=0.997**4, options={**_FIRE, "colour": "grey"}
        ),
        replay=ReplayConfig(capacity=500_000, start=4_000),
        train=TrainConfig(
            agents=1,
            steps=60_000,
            lanes=64,
            updates_per_round=4,
            batch_size=256,
            reanalyse_ratio=0.25,
            checkpoints=(0, 2_000, 8_000, 20_000, 40_000, 60_000),
            save_seconds=600.0,
        ),
        evaluate=EvaluateConfig(states=32),
        experiments=looks(
            **_BREAKOUT_LOOKS, sequences=16, search=(20_000,), planning=(60_000,), episodes=4
        ),
    ),
    # The paper's scale: 20 agents, 500K training steps, K = 5 (Section 3.1); one transition
    # per training step and a replay of 100K of them, as EfficientZero.
    "paper": dataclasses.replace(
        _BREAKOUT,
        preset="paper",
        replay=ReplayConfig(capacity=100_000, start=2_000),
        train=TrainConfig(
            agents=20,
            steps=500_000,
            lanes=4,
            updates_per_round=4,
            batch_size=256,
            reanalyse_ratio=8.0,
            checkpoints=(0, 2_000, 10_000, 50_000, 100_000, 200_000, 500_000),
            save_seconds=3_600.0,
        ),
        experiments=looks(
            **_BREAKOUT_LOOKS, search=(10_000,), planning=(10_000, 500_000), episodes=4
        ),
    ),
}
