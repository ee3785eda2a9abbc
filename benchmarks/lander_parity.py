"""Lunar Lander against Box2D: whole episodes from the same start and the same actions.

    python benchmarks/lander_parity.py [--episodes 200]

Policies go from Gymnasium's heuristic to random play (a quarter of the episodes each with 0, 10,
30 and 100 % random actions).  An episode agrees if both end at the same step with the same
return to 1e-2.  The noise floor is Box2D against itself with the initial force scaled by
1 + 1e-7.
"""

from __future__ import annotations

import argparse
import time

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.box2d.lunar_lander import heuristic

from muscope import runtime
from muscope.envs.lunar_lander.environment import LunarLander, begin

SHARES = (0.0, 0.1, 0.3, 1.0)


class Quiet:
    """A generator whose dispersion draws count as 0; terrain and initial force are kept."""

    def __init__(self, seed: int, scale: float = 1.0):
        self.generator, self.scale = np.random.default_rng(seed), scale
        self.drawn: list[np.ndarray] = []

    def uniform(self, low: float = 0.0, high: float = 1.0, size: tuple | None = None):
        """A draw; nothing is random after the terrain and the force."""
        value = self.generator.uniform(low, high, size)
        if len(self.drawn) >= 3:
            return value * 0.0
        self.drawn.append(np.copy(value))
        return value * self.scale if len(self.drawn) > 1 else value


def box2d(seed: int, scale: float = 1.0):
    """Gymnasium's lander after its reset, and its first observation."""
    lander = gymnasium.make("LunarLander-v3").unwrapped
    lander._np_random = Quiet(seed, scale)  # type: ignore[assignment]
    return lander, lander.reset()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=200)
    options = parser.parse_args()
    runtime.prepare()
    ours = LunarLander()
    start, step = jax.jit(begin), jax.jit(ours.step)
    agrees = {"muscope": 0, "Box2D, force x (1 + 1e-7)": 0}
    clock = time.perf_counter()
    for seed in range(options.episodes):
        lander, observation = box2d(seed)
        other, _ = box2d(seed, 1 + 1e-7)
        drawn = lander.np_random.drawn
        state = start(jnp.asarray(drawn[0]), jnp.asarray(np.array(drawn[1:])))
        rng, share = np.random.default_rng(seed + 1000), SHARES[seed % 4]
        returns, ends = np.zeros(3), [0, 0, 0]
        for now in range(1, 1001):
            action = int(heuristic(lander, observation))
            if rng.random() < share:
                action = int(rng.integers(4))
            observation, reward, over, _, _ = lander.step(action)
            rewards, overs = [reward, 0.0, 0.0], [over, False, False]
            if not ends[1]:
                state, rewards[1], overs[1] = step(state, jnp.int32(action))
            if not ends[2]:
                _, rewards[2], overs[2], _, _ = other.step(action)
            returns += np.asarray(rewards, float)
            ends = [end or (now if done else 0) for end, done in zip(ends, overs, strict=True)]
            if ends[0]:
                break
        for i, name in enumerate(agrees, start=1):
            agrees[name] += ends[i] == ends[0] and abs(returns[i] - returns[0]) < 1e-2
    print(f"{options.episodes} episodes, {time.perf_counter() - clock:.0f} s")
    for name, count in agrees.items():
        print(f"{name:<28} agrees in {count} ({count / options.episodes:.1%})")


if __name__ == "__main__":
    main()
