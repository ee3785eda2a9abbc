"""Lunar Lander's steps per second in random play, against one Gymnasium process.

    python benchmarks/lander_speed.py [--lanes 1024] [--steps 200] [--repeats 3]

Both play uniformly random actions and start anew where an episode ends, resets included.
Gymnasium runs on one core; ours is one compiled program that divides the lanes over as many
devices as there are cores, and is timed on one of them too.  Runs alternate; compilation is
timed by itself, without the compilation cache.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muscope import envs, runtime
from muscope.envs import episode
from muscope.envs.lunar_lander.snapshot import NEAR


def gymnasium_rate(seconds: float) -> float:
    """Steps per second of one environment."""
    import gymnasium  # Not needed by who only wants our side.

    environment: Any = gymnasium.make("LunarLander-v3")
    rng = np.random.default_rng(0)
    environment.reset(seed=0)
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        _, _, over, cut, _ = environment.step(int(rng.integers(4)))
        steps += 1
        if over or cut:
            environment.reset()
    return steps / (time.perf_counter() - begin)


def program(
    lanes: int, steps: int, devices: list[jax.Device]
) -> tuple[float, Callable[[], tuple[float, float]]]:
    """Compile random play on some devices.

    Returns:
        Seconds of compilation, and what measures steps per second and the share of states near
        the ground.

    """
    environment, count = envs.make("lunar-lander"), len(devices)
    lanes_each = lanes // count

    def start(key):
        keys = jax.random.split(key, lanes_each)
        return jax.vmap(lambda k: episode.start(environment, k))(keys)

    def run(state, key):
        def step(carry, key):
            state, near = carry
            action_key, reset_key = jax.random.split(key)
            action = jax.random.randint(action_key, (lanes_each,), 0, 4)
            near += jnp.mean(state.state.phase == NEAR)
            keys = jax.random.split(reset_key, lanes_each)
            state, _ = jax.vmap(lambda s, a, k: episode.advance(environment, s, a, k))(
                state, action, keys
            )
            return (state, near), None

        (state, near), _ = jax.lax.scan(step, (state, jnp.zeros(())), jax.random.split(key, steps))
        return state, near / steps

    mesh = runtime.agents_mesh(count, devices)
    keys = jax.random.split(jax.random.key(0), count)
    state = runtime.map_agents(start, mesh, per_agent=1)(keys)
    begin = time.perf_counter()
    jitted: Any = runtime.map_agents(run, mesh, per_agent=2)
    compiled = jitted.lower(state, keys).compile()
    seconds = time.perf_counter() - begin
    state, _ = compiled(state, keys)  # Episodes are at all their stages after this.

    def timed() -> tuple[float, float]:
        begin = time.perf_counter()
        _, near = jax.block_until_ready(compiled(state, keys))
        rate = lanes * steps / (time.perf_counter() - begin)
        return rate, float(jnp.mean(near))

    return seconds, timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lanes", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    runtime.prepare()
    jax.config.update("jax_enable_compilation_cache", False)
    devices = jax.local_devices()
    sizes = sorted({1, len(devices)})
    programs = {count: program(options.lanes, options.steps, devices[:count]) for count in sizes}
    rates: dict[int, list[float]] = {count: [] for count in sizes}
    baseline = []
    for _ in range(options.repeats):
        baseline.append(gymnasium_rate(3.0))
        for count in sizes:
            rate, near = programs[count][1]()
            rates[count].append(rate)
    base = statistics.median(baseline)
    print(
        f"{options.lanes} lanes, random play, resets included; {near:.1%} of states near the ground"
    )
    print(f"Gymnasium, one process: {base:,.0f} steps/s")
    for count in sizes:
        rate = statistics.median(rates[count])
        print(
            f"muscope on {count} device(s) of {devices[0].platform}: {rate:,.0f} steps/s, "
            f"{rate / base:.1f} times; compiled in {programs[count][0]:.0f} s"
        )


if __name__ == "__main__":
    main()
