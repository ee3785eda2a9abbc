"""Try settings on Cart Pole: greedy return through training for several agents at once.

    python benchmarks/tune.py [--preset quick] [--agents 4] [--steps 4000] [--every 500] \
        [--seed 100] [search.simulations=25 loss.n_step=5 ...]

Trains one population with the preset's settings and the given changes (values are JSON) and
plays 20 fresh greedy episodes per agent every ``--every`` updates.  Prints, per agent, the
environment steps to the first mean return of 475 and the final return; over agents, the mean
return in the second half of training and its course.
"""

from __future__ import annotations

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from muscope import envs, presets, runtime
from muscope.config import Config, from_dict, to_dict
from muscope.evaluation.play import GREEDY, muzero_policy, play
from muscope.training.population import Population

GOAL = 475.0


def changed(preset: str, agents: int, steps: int, seed: int, changes: list[str]) -> Config:
    """The preset with the command line's changes."""
    data = to_dict(presets.preset("cart-pole", preset))
    data["train"] |= {"agents": agents, "steps": steps, "seed": seed, "checkpoints": [0]}
    for change in changes:
        name, value = change.split("=", 1)
        *path, last = name.split(".")
        section = data
        for part in path:
            section = section[part]
        section[last] = json.loads(value)
    return from_dict(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("changes", nargs="*", help="setting=value, as in search.simulations=25")
    options = parser.parse_args()
    runtime.prepare()
    config = changed(options.preset, options.agents, options.steps, options.seed, options.changes)
    environment = envs.make("cart-pole")
    population = Population(config)

    def test(agent, key):
        policy = muzero_policy(
            environment, agent, config.search, config.environment.discount, GREEDY
        )
        return jnp.mean(play(environment, policy, 20, key).score)

    tests = runtime.over_agents(test, population.mesh, per_agent=2)
    state, rounds, step, due, seconds = population.initial(), 0, 0, options.every, 0.0
    solved: list[int | None] = [None] * options.agents
    curve = []
    while step < options.steps:
        begin = time.monotonic()
        state, metrics = population.advance(state, rounds)
        jax.block_until_ready(metrics)
        seconds += time.monotonic() - begin
        rounds += config.train.call_rounds
        step = population.training_step(rounds)
        if step >= due or step >= options.steps:
            due += options.every
            keys = jax.random.split(jax.random.key(step), options.agents)
            scores = np.asarray(tests(state.average, keys))
            curve.append(scores)
            for i, score in enumerate(scores):
                if solved[i] is None and score >= GOAL:
                    solved[i] = rounds * config.train.lanes
    second_half = np.array(curve[len(curve) // 2 :])
    print("changes:", " ".join(options.changes) or "none")
    print("environment steps to 475:", solved)
    print("final return:", np.round(curve[-1]).astype(int).tolist())
    print(f"mean return, second half: {second_half.mean():.0f}")
    print("course:", [round(float(x.mean())) for x in curve])
    print(f"training seconds, compilation included: {seconds:.0f}")


if __name__ == "__main__":
    main()
