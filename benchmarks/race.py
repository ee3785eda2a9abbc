"""Seconds, updates and environment steps until an agent has learned Cart Pole.

    python benchmarks/race.py [--seeds 5] [--preset strong-quick] [--every 400]

For each seed one fresh process trains one agent, with an empty compilation cache, on one
CPU core's device.  Every ``--every`` updates it plays 20 fresh episodes greedily by MCTS
(unseen start states, no noise); "solved" is the first time their mean is at least 475, and
the clock runs from the start of the process, so that imports, compilation and all the
evaluations count.  Training then goes on to the end of the schedule, and 20 more fresh
episodes are played.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

GOAL = 475.0
EPISODES = 20


def child(seed: int, preset: str, every: int, began: float) -> None:
    """Train and test one agent; prints one JSON line."""
    import jax
    import jax.numpy as jnp

    from muscope import envs, presets, runtime
    from muscope.evaluation.play import GREEDY, muzero_policy, play
    from muscope.training.population import Population

    runtime.prepare()
    config = presets.preset("cart-pole", preset)
    config = dataclasses.replace(
        config, train=dataclasses.replace(config.train, agents=1, seed=seed)
    )
    environment = envs.make("cart-pole")
    population = Population(config)

    @jax.jit
    def test(agents, key):
        agent = jax.tree.map(lambda x: x[0], agents)
        policy = muzero_policy(
            environment, agent, config.search, config.environment.discount, GREEDY
        )
        return jnp.mean(play(environment, policy, EPISODES, key).score)

    state, rounds, step, due, solved = population.initial(), 0, 0, every, None
    key = jax.random.key(10_000 + seed)
    curve = []
    while step < config.train.steps:
        state, _ = population.advance(state, rounds)
        rounds += config.train.call_rounds
        step = population.training_step(rounds)
        if step >= due or step >= config.train.steps:
            due += every
            score = float(test(state.average, jax.random.fold_in(key, step)))
            curve.append((step, score))
            if solved is None and score >= GOAL:
                solved = {
                    "seconds": time.time() - began,
                    "updates": step,
                    "environment_steps": rounds * config.train.lanes,
                }
    final = float(test(state.average, jax.random.fold_in(key, 1_000_000)))
    print(
        json.dumps(
            {
                "seed": seed,
                "solved": solved,
                "final": final,
                "total_seconds": time.time() - began,
                "total_environment_steps": rounds * config.train.lanes,
                "curve": curve,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--preset", default="strong-quick")
    parser.add_argument("--every", type=int, default=400, help="updates between tests")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(int(options.child[0]), options.preset, options.every, float(options.child[1]))
        return
    print(f"{'seed':>4} {'seconds':>8} {'updates':>8} {'env steps':>10} {'final':>6} {'sagged':>7}")
    results = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as cache:
            command = [
                *(sys.executable, __file__, "--preset", options.preset),
                *("--every", str(options.every), "--child", str(seed), repr(time.time())),
            ]
            environment = {**os.environ, "MUSCOPE_CACHE": cache}
            done = subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
        result = json.loads(done.stdout.splitlines()[-1])
        results.append(result)
        solved = result["solved"] or dict.fromkeys(("seconds", "updates", "environment_steps"))
        after = [
            s for step, s in result["curve"] if solved["updates"] and step >= solved["updates"]
        ]
        print(
            f"{seed:>4} {_or_none(solved['seconds'], '.1f'):>8} "
            f"{_or_none(solved['updates'], 'd'):>8} "
            f"{_or_none(solved['environment_steps'], 'd'):>10} {result['final']:6.0f} "
            f"{_or_none(min(after) if after else None, '.0f'):>7}",
            flush=True,
        )
    times = [r["solved"] for r in results if r["solved"]]
    kept = sum(r["final"] >= GOAL for r in results)
    print(f"solved {len(times)} of {len(results)}; at the end still {kept} of {len(results)}")
    for name in ("seconds", "updates", "environment_steps"):
        if times:
            print(f"median {name}: {statistics.median(t[name] for t in times):g}")


def _or_none(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    main()
