"""Planning with the true model: simulated environment steps per second.

    python benchmarks/planning.py [--simulations 64] [--horizon 16] [--repeats 5]

The search of Figure 7 (true model, uniform prior, rollout leaves) on Cart Pole, beside the same
search written as a plain Python loop over Gymnasium's environment.  Both count the steps that
the method needs: per simulation one to expand and, if the new node lies at depth d, H - d for
the rollout.  The two searches' mean root values are printed too; they must agree.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muscope import envs, presets, runtime
from muscope.agent import networks
from muscope.config import SearchConfig
from muscope.evaluation.planners import Node, Planner, TruePlace, planner_parts
from muscope.evaluation.play import starts
from muscope.search import search

DISCOUNT = 0.997


class Gym:
    """Gymnasium's Cart Pole with states that can be put back."""

    def __init__(self) -> None:
        import gymnasium

        self.env: Any = gymnasium.make("CartPole-v1").unwrapped
        self.env.reset(seed=0)
        self.steps = 0

    def step(self, state: tuple, over: bool, action: int) -> tuple[tuple, bool, float]:
        """One transition; terminal states are absorbing."""
        self.steps += 1
        if over:
            return state, True, 0.0
        self.env.state, self.env.steps_beyond_terminated = np.array(state), None
        _, reward, over, _, _ = self.env.step(action)
        return tuple(self.env.state), over, float(reward)


def python_search(
    gym: Gym, root: tuple, simulations: int, horizon: int, config: SearchConfig
) -> float:
    """The same search as muscope's, one node at a time; returns the root's value."""
    states, over, reward = [root], [False], [0.0]
    children: list[list[int | None]] = [[None, None]]
    visits, returns = [[0, 0]], [[0.0, 0.0]]
    value = [rollout(gym, root, False, horizon)]
    for _ in range(simulations):
        seen = [
            w / n
            for ws, ns in zip(returns, visits, strict=True)
            for w, n in zip(ws, ns, strict=True)
            if n
        ]
        low = min(seen, default=0.0)
        scale = 1.0 / max(max(seen, default=0.0) - low, config.range_floor)
        node, path = 0, []
        while True:
            total = sum(visits[node])
            unknown = (
                ((sum(returns[node]) + value[node]) / (total + 1) - low) * scale if seen else 0.0
            )
            unknown = min(max(unknown, 0.0), 1.0)
            c = config.c1 + math.log((total + config.c2 + 1) / config.c2)
            scores = [
                ((returns[node][a] / n - low) * scale if n else unknown)
                + c * 0.5 * math.sqrt(max(total, 1)) / (1 + n)
                + 1e-6 * random.random()
                for a, n in enumerate(visits[node])
            ]
            action = int(scores[1] > scores[0])
            path.append((node, action))
            following = children[node][action]
            if following is None or len(path) == horizon:
                break
            node = following
        parent, action = path[-1]
        if following is None:
            state, ended, r = gym.step(states[parent], over[parent], action)
            following = children[parent][action] = len(states)
            states.append(state)
            over.append(ended)
            reward.append(r)
            children.append([None, None])
            visits.append([0, 0])
            returns.append([0.0, 0.0])
            value.append(rollout(gym, state, ended, horizon - len(path)))
        back = value[following]
        for node, action in reversed(path):
            child = children[node][action]
            assert child is not None
            back = reward[child] + DISCOUNT * back
            visits[node][action] += 1
            returns[node][action] += back
    return (sum(returns[0]) + value[0]) / (simulations + 1)


def rollout(gym: Gym, state: tuple, over: bool, length: int) -> float:
    """The discounted reward of uniformly random actions."""
    total = 0.0
    for k in range(length):
        state, over, reward = gym.step(state, over, random.randrange(2))
        total += DISCOUNT**k * reward
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=64)
    parser.add_argument("--horizon", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    runtime.prepare()
    environment = envs.make("cart-pole")
    config = SearchConfig(simulations=options.simulations, max_depth=options.horizon)
    spec = environment.spec
    agent = networks.build(
        presets.preset("cart-pole", "strong-quick").network, spec, jax.random.key(0)
    )
    planner = Planner("true", "rollout", options.horizon)
    parts = planner_parts(planner, environment, agent, DISCOUNT)
    parts = parts._replace(trace=lambda node, depth, key: depth)

    @jax.jit
    def plan(states, key):
        lanes = jax.tree.leaves(states)[0].shape[0]
        places = TruePlace(states, jnp.zeros(lanes, bool))
        searched = search(parts, Node(places, jnp.zeros(lanes, bool)), key, config, DISCOUNT)
        # Trees of so few simulations stay above the horizon, so every simulation expands.
        steps = jnp.sum(1 + options.horizon - searched.trace[0])
        return searched.value, steps + lanes * options.horizon

    random.seed(0)
    gym = Gym()
    roots = np.asarray(starts(environment, 40, jax.random.key(0)).physics)
    begin = time.perf_counter()
    values = [
        python_search(gym, tuple(map(float, root)), options.simulations, options.horizon, config)
        for root in roots
    ]
    python_rate = gym.steps / (time.perf_counter() - begin)
    print(f"{'planner':<28}{'roots':>7}{'steps/s':>14}{'ratio':>8}{'mean value':>12}")
    print(
        f"{'Python over Gymnasium':<28}{1:>7}{python_rate:>14,.0f}{1:>8.0f}{np.mean(values):>12.3f}"
    )
    for lanes in (1, 16, 256, 4096):
        states = starts(environment, lanes, jax.random.key(1))
        value, steps = jax.block_until_ready(plan(states, jax.random.key(2)))
        times = []
        for _ in range(options.repeats):
            begin = time.perf_counter()
            jax.block_until_ready(plan(states, jax.random.key(2)))
            times.append(time.perf_counter() - begin)
        rate = int(steps) / statistics.median(times)
        print(
            f"{'muscope, ' + jax.default_backend():<28}{lanes:>7}{rate:>14,.0f}"
            f"{rate / python_rate:>8.0f}{float(jnp.mean(value)):>12.3f}"
        )


if __name__ == "__main__":
    main()
