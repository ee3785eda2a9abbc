"""A whole run in seconds, for tests and benchmarks."""

from muscope.config import (
    Config,
    EvaluateConfig,
    LossConfig,
    NetworkConfig,
    ReplayConfig,
    SearchConfig,
    TrainConfig,
)


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
            "equivalence": {"states": 3, "sequences": 2, "functions": 1},
            "figure6": {"simulations": 4, "horizon": 4},
            "figure7": {"checkpoints": [8], "simulations": [1, 3], "horizon": 4, "episodes": 2},
            "decisions": {
                **{"checkpoints": [8], "simulations": 3, "horizon": 4},
                **{"q_horizon": 5, "sequences": 3},
            },
        },
    )
