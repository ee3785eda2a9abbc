"""Agents of one's own in PyTorch: muscope examine examples/torch_agent.py:subject."""

import torch
from torch import nn

import muscope
from muscope.envs import CartPole
from muscope.foreign import TorchAgent, TorchModules


class Networks(nn.Module):
    """Any modules; here untrained ones."""

    def __init__(self, seed, width=64):
        super().__init__()
        torch.manual_seed(seed)
        self.h = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.Tanh())
        self.g = nn.Sequential(nn.Linear(width + 2, width), nn.ReLU(), nn.Linear(width, width + 1))
        self.f = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))

    def dynamics(self, z, action):
        out = self.g(torch.cat([z, nn.functional.one_hot(action, 2).float()], dim=1))
        return torch.tanh(z + out[:, 1:]), out[:, 0]

    def predict(self, z):
        out = self.f(z)
        return out[:, :2], out[:, 2]


def population(seed):
    networks = [Networks(seed), Networks(seed + 1)]  # nets.load_state_dict(...) for trained ones
    modules = [TorchModules(net.h, net.dynamics, net.predict) for net in networks]
    return TorchAgent(modules, CartPole.spec)


def subject():
    checkpoints = {0: population(0), 1_000: population(2)}
    return muscope.subject(checkpoints, "cart-pole", name="torch-agent", discount=0.99, unroll=5)
