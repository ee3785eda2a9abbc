"""Settings: one frozen, typed, bounded class per concern.  Nothing here imports JAX."""

from muscope.config.base import Settings, differences, to_dict
from muscope.config.cluster import RayConfig
from muscope.config.environment import EnvironmentConfig, HostConfig
from muscope.config.evaluate import EvaluateConfig
from muscope.config.learning import LossConfig, OptimiserConfig, ReplayConfig
from muscope.config.network import NetworkConfig
from muscope.config.run import (
    FREE,
    Config,
    from_dict,
    is_steady,
    made_of,
    trained_alike,
    training_dict,
)
from muscope.config.search import SearchConfig
from muscope.config.train import TrainConfig

__all__ = [
    "FREE",
    "Config",
    "EnvironmentConfig",
    "EvaluateConfig",
    "HostConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimiserConfig",
    "RayConfig",
    "ReplayConfig",
    "SearchConfig",
    "Settings",
    "TrainConfig",
    "differences",
    "from_dict",
    "is_steady",
    "made_of",
    "to_dict",
    "trained_alike",
    "training_dict",
]
