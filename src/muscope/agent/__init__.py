"""The agent of Section 2.2: representation h, dynamics g and prediction f."""

from muscope.agent.networks import MuZero, NetworkConfig, Prediction, build, register
from muscope.agent.support import Support, h_transform, h_transform_inverse

__all__ = [
    "MuZero",
    "NetworkConfig",
    "Prediction",
    "Support",
    "build",
    "h_transform",
    "h_transform_inverse",
    "register",
]
