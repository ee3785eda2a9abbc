"""What Breakout costs on this machine: emulator, compiled steps, training, memory.

    python benchmarks/atari.py [--preset quick] [--rounds 20]

* edges: restore, one agent step with its screen, save, on different (state, action) pairs, by the
  number of worker processes; with one, the emulator runs in this process without any transfer;
* compiled: the same through the environment's ``step`` in a compiled program, with the resize
  and the stack, per lane, and again when all results are remembered;
* training: seconds per round of a preset with one agent and the share of acting and Reanalyse,
  from rounds before and after the first update; compilation is not counted;
* the bytes of one agent's replay.

Nothing is asserted about the times: other work on the machine changes them.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from muscope import envs, presets, runtime
from muscope.config import Config
from muscope.config.base import from_dict
from muscope.envs.atari import AtariConfig
from muscope.envs.emulator import Emulator, EmulatorMaker
from muscope.envs.workers import Pool, Work
from muscope.training.population import Population

LANES = 32


def seconds(call: Callable[[], Any], repeats: int = 3) -> float:
    """The least time of a few calls, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return min(times)


def random_states(maker: EmulatorMaker, count: int) -> list[bytes]:
    """Snapshots along random play."""
    emulator, rng = Emulator(maker), np.random.default_rng(0)
    state = emulator.reset(0)
    snapshots: list[bytes] = []
    while len(snapshots) < count:
        snapshots.append(state.snapshot)
        state = emulator.step(state.snapshot, int(rng.integers(emulator.num_actions)))
        if state.over:
            state = emulator.reset(len(snapshots) % 30)
    return snapshots


def edges(config: Config) -> Iterator[tuple[int, float]]:
    """The number of workers, and edges per second."""
    atari = from_dict(dict(config.environment.options), AtariConfig)
    maker = EmulatorMaker("breakout", atari.colour == "grey", atari.frame_skip)
    work = [Work(s, i % 4) for i, s in enumerate(random_states(maker, 512))]
    cores = len(os.sched_getaffinity(0))
    for workers in sorted({1, 2, *(n for n in (4, 8, 16, cores) if n <= cores)}):
        pool = Pool(maker, workers)
        took = seconds(functools.partial(pool.map, work))
        pool.close()
        yield workers, len(work) / took


def compiled(config: Config) -> dict[str, float]:
    """Seconds of a compiled step of one of many lanes, computed and remembered."""
    environment = envs.make(config.environment)
    states = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), LANES))

    @jax.jit
    def walk(states, key):
        def advance(states, key):
            actions = jax.random.randint(key, (LANES,), 0, environment.spec.num_actions)
            moved = jax.vmap(environment.step)(states, actions)
            return moved.state, jax.vmap(environment.observe)(moved.state).sum()

        return jax.lax.scan(advance, states, jax.random.split(key, 20))[1]

    jax.block_until_ready(walk(states, jax.random.key(0)))
    start = time.perf_counter()
    jax.block_until_ready(walk(states, jax.random.key(1)))
    fresh = time.perf_counter() - start
    known = seconds(lambda: walk(states, jax.random.key(1)))
    return {"computed": fresh / 20 / LANES, "remembered": known / 20 / LANES}


class Round(NamedTuple):
    """Seconds of a round of training."""

    memory: str
    """What training takes, in words."""
    whole: float
    acting: float
    """Of it, acting and Reanalyse."""
    updates: int
    """In a round."""

    @property
    def update(self) -> float:
        """Seconds of one update."""
        return (self.whole - self.acting) / self.updates


def training(config: Config, rounds: int, agents: int = 1, in_turn: bool | None = None) -> Round:
    """Rounds without and with updates.

    Args:
        config: the run's.
        rounds: that are timed.
        agents: that are trained.
        in_turn: whether a device trains them one after the other; as muscope does by default.

    """
    train = dataclasses.replace(config.train, agents=agents, rounds_per_call=1)
    ready = dataclasses.replace(config.replay, start=train.lanes)
    config = dataclasses.replace(config, train=train, replay=ready)
    population = Population(config)
    memory = population.refuse_what_does_not_fit()
    acting = dataclasses.replace(config, replay=dataclasses.replace(ready, start=ready.capacity))
    took = {}
    for name, trained in (("acting", Population(acting)), ("whole", population)):
        if in_turn is not None:
            trained._in_turn = in_turn
        state = trained.initial()
        for number in range(4):
            state, metrics = trained.advance(state, number)
        jax.block_until_ready(metrics)
        start = time.perf_counter()
        for number in range(4, 4 + rounds):
            state, metrics = trained.advance(state, number)
        jax.block_until_ready(metrics)
        took[name] = (time.perf_counter() - start) / rounds
    return Round(memory, took["whole"], took["acting"], train.updates_per_round)


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    runtime.prepare()
    config = presets.preset("breakout", arguments.preset)
    device = jax.devices()[0]
    print(f"preset {arguments.preset}, {device.device_kind}, {os.cpu_count()} cores")
    for workers, rate in edges(config):
        print(f"{workers} workers: {rate:,.0f} edges/s")
    for name, took in compiled(config).items():
        print(f"compiled steps, {LANES} lanes, {name}: {1e3 * took:.3f} ms per lane")
    measured, train = training(config, arguments.rounds), config.train
    print(measured.memory)
    print(
        f"a round of {train.lanes} lanes, {train.reanalysed_per_round} reanalysed rows and "
        f"{measured.updates} updates: {measured.whole:.3f} s, of which acting and Reanalyse "
        f"{measured.acting:.3f} s ({train.lanes / measured.acting:,.0f} agent steps/s without "
        f"updates); {measured.update:.3f} s per update"
    )
    hours = measured.whole * train.steps / measured.updates / 3600
    print(f"{train.steps:,} training steps: {hours:.2f} h per agent")


if __name__ == "__main__":
    main()
