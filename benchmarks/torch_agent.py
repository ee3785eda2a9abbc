"""What PyTorch costs: all figures of an agent of PyTorch modules, and of the same network in JAX.

    python benchmarks/torch_agent.py [--agents P]

Untrained networks of 64 units on Cart Pole with equal weights, the settings of the quick study's
evaluation at one checkpoint, each in a process of its own with an empty compilation cache, one
after the other.  Prints the seconds of both and their ratio, and how far their tables differ.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WIDTH = 64


def torch_subject(agents: int):
    import torch
    from torch import nn

    import muscope
    from muscope.envs import CartPole
    from muscope.foreign import TorchAgent, TorchModules

    class Networks(nn.Module):
        def __init__(self, seed: int):
            super().__init__()
            torch.manual_seed(seed)
            self.h1, self.h2 = nn.Linear(4, WIDTH), nn.Linear(WIDTH, WIDTH)
            self.g1, self.g2 = nn.Linear(WIDTH + 2, WIDTH), nn.Linear(WIDTH, WIDTH + 1)
            self.f1, self.f2 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

        def represent(self, x):
            return torch.tanh(self.h2(torch.relu(self.h1(x))))

        def dynamics(self, z, action):
            one_hot = nn.functional.one_hot(action, 2).float()
            out = self.g2(torch.relu(self.g1(torch.cat([z, one_hot], dim=1))))
            return torch.tanh(z + out[:, 1:]), out[:, 0]

        def predict(self, z):
            out = self.f2(torch.relu(self.f1(z)))
            return out[:, :2], out[:, 2]

    networks = [Networks(seed) for seed in range(agents)]
    modules = [TorchModules(n.represent, n.dynamics, n.predict) for n in networks]
    agent = TorchAgent(modules, CartPole.spec)
    return networks, muscope.subject(agent, "cart-pole", name="torch", discount=0.99, unroll=10)


def jax_subject(agents: int):
    import jax
    import jax.numpy as jnp

    import muscope
    from muscope.agent import FunctionAgent

    def layer(p, name, x):
        return x @ p[name][0] + p[name][1]

    def represent(p, x):
        return jnp.tanh(layer(p, "h2", jax.nn.relu(layer(p, "h1", x))))

    def step(p, z, action):
        x = jnp.concatenate([z, jax.nn.one_hot(action, 2)])
        out = layer(p, "g2", jax.nn.relu(layer(p, "g1", x)))
        return jnp.tanh(z + out[1:]), out[0]

    def predict(p, z):
        out = layer(p, "f2", jax.nn.relu(layer(p, "f1", z)))
        return out[:2], out[2]

    networks, _ = torch_subject(agents)
    members = []
    for network in networks:
        p = {
            name: (module.weight.detach().numpy().T.copy(), module.bias.detach().numpy().copy())
            for name, module in network.named_children()
        }
        members.append(FunctionAgent(jax.tree.map(jnp.asarray, p), represent, step, predict))
    return muscope.subject(members, "cart-pole", name="jax", discount=0.99, unroll=10)


def examine(kind: str, agents: int, out: Path) -> None:
    import muscope
    from muscope.config import EvaluateConfig

    subject = jax_subject(agents) if kind == "jax" else torch_subject(agents)[1]
    preset = muscope.preset("cart-pole", "strong-quick")
    experiments = {
        name: {k: v for k, v in settings.items() if k != "checkpoints"}
        for name, settings in preset.experiments.items()
    }
    muscope.examine(subject, out, None, EvaluateConfig(states=48), experiments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=2)
    parser.add_argument("--kind", choices=["jax", "torch"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        examine(options.kind, options.agents, options.out)
        return
    import pyarrow.parquet as pq

    seconds, errors = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("jax", "torch"):
            environment = {**os.environ, "MUSCOPE_CACHE": f"{folder}/cache-{kind}"}
            command = [sys.executable, __file__, "--kind", kind, "--out", f"{folder}/{kind}"]
            begin = time.perf_counter()
            subprocess.run([*command, "--agents", str(options.agents)], check=True, env=environment)
            seconds[kind] = time.perf_counter() - begin
            table = pq.read_table(f"{folder}/{kind}/tables/figure3.parquet")
            errors[kind] = table["error"].to_numpy()
    print(f"JAX {seconds['jax']:.0f} s, PyTorch {seconds['torch']:.0f} s, compilation included")
    print(f"ratio {seconds['torch'] / seconds['jax']:.2f}")
    means = ", ".join(f"{kind} {error.mean():.4f}" for kind, error in errors.items())
    print(f"mean error of Figure 3: {means} (other action sequences where rounding decides)")


if __name__ == "__main__":
    main()
