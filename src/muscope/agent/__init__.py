"""The agent of Section 2.2: representation h, dynamics g and prediction f."""

from muscope.agent import pixels as _pixels  # noqa: F401 (registers "resnet")
from muscope.agent.base import Agent, Latent, Prediction
from muscope.agent.functions import FunctionAgent
from muscope.agent.networks import MuZero, build, register
from muscope.agent.support import Support, h_transform, h_transform_inverse
from muscope.agent.true_model import TrueModel

__all__ = [
    "Agent",
    "FunctionAgent",
    "Latent",
    "MuZero",
    "Prediction",
    "Support",
    "TrueModel",
    "build",
    "h_transform",
    "h_transform_inverse",
    "register",
]
