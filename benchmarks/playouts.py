"""Figure 7 with rollouts that a host's simulator plays out in one go, against step by step.

    python benchmarks/playouts.py [breakout] [--moves 40] [--agents 2]

Untrained agents of preset `quick` play the same games both ways, under every planner of the true
model.  Compilation is not counted, and what the simulator remembers is forgotten before every run.
The scores of both ways must be equal.
"""

from __future__ import annotations

import argparse
import copy
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import muscope
from muscope import envs, presets, runtime
from muscope.agent import networks
from muscope.envs.host import HostEnvironment
from muscope.envs.simulator import Memo
from muscope.experiments.lab import Bench, Lab
from muscope.experiments.planning import play_planner


def stepping(world: HostEnvironment) -> HostEnvironment:
    """The same world, of a class with a step of its own, which play_out respects."""
    kind, world = type(world), copy.copy(world)  # Environments are made once in a process.
    world.__class__ = type("Stepping", (kind,), {"step": lambda *given: kind.step(*given)})
    return world


def bench_of(name: str, agents: int, *, in_one_go: bool) -> Bench:
    """Untrained agents, with programs of their own."""
    config = presets.preset(name, "quick")
    world = envs.make(config.environment)
    assert isinstance(world, HostEnvironment)
    if not in_one_go:
        world = stepping(world)
    made = [
        networks.build(config.network, world.spec, key)
        for key in jax.random.split(jax.random.key(0), agents)
    ]
    subject = muscope.subject(
        made, world, discount=config.environment.discount, search=config.search
    )
    subject.in_turn = networks.in_turn(config.network, jax.default_backend())
    return Lab(subject, config.evaluate).bench(range(agents))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environment", nargs="?", default="breakout")
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--agents", type=int, default=2)
    options = parser.parse_args()
    runtime.start()
    figure7 = presets.preset(options.environment, "quick").experiments["figure7"]
    for leaf in ("rollout", "value"):
        seconds, scores = [], []
        for in_one_go in (False, True):
            bench = bench_of(options.environment, options.agents, in_one_go=in_one_go)
            world: Any = bench.scope.environment

            def play(bench: Bench = bench, leaf: str = leaf) -> list[Any]:
                return [
                    bench.call(
                        play_planner,
                        bench.at(1),
                        bench.keys(0, 6),
                        shared=(jnp.int32(budget),),
                        model="true",
                        leaf=leaf,
                        horizon=figure7["horizon"],
                        simulations=figure7["simulations"][-1],
                        episodes=figure7["episodes"],
                        steps=options.moves,
                    )
                    for budget in figure7["simulations"]
                ]

            jax.block_until_ready(play())  # Compiles.
            world.simulator.memo = Memo(world.simulator.memo.size)
            begin = time.perf_counter()
            played = jax.block_until_ready(play())
            seconds.append(time.perf_counter() - begin)
            scores.append(np.stack([[np.asarray(x) for x in each] for each in played]))
        np.testing.assert_array_equal(scores[0], scores[1])
        slow, fast = seconds
        print(
            f"{options.environment}, {leaf} leaves, {options.moves} moves: {slow:.1f} s step by "
            f"step, {fast:.1f} s in one go, ratio {slow / fast:.2f}; equal scores",
            flush=True,
        )


if __name__ == "__main__":
    main()
