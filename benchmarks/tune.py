"""Try settings: greedy return through training for several agents at once.

    python benchmarks/tune.py cart-pole [--preset quick] [--agents 4] [--steps 4000] \
        [--schedule 0] [--every 500] [--seed 100] [search.simulations=25 loss.n_step=5 ...]

Trains one population with the preset's settings and the given changes (values are JSON) and
plays 20 fresh greedy episodes per agent every ``--every`` updates, which are printed as they
come, beside the policy's entropy and the spread of values among the newest rows of the replay: a
policy that has collapsed and values that are the same everywhere show there.  ``--schedule``
stops a longer run of that many steps early.  Prints, per agent, the environment steps to the
first mean return that counts as solved and the final return; over agents, the mean return in the
second half of training.
"""

from __future__ import annotations

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from muscope import envs, presets, runtime
from muscope.config import Config, from_dict, to_dict
from muscope.evaluation.play import GREEDY, muzero_policy, play
from muscope.training.agent import AgentState
from muscope.training.population import Population

SOLVED = {"cart-pole": 475.0, "lunar-lander": 200.0, "breakout": 5.0}
NEWEST = 100  # rows of the replay per lane


def changed(options: argparse.Namespace) -> Config:
    """The preset with the command line's changes."""
    data = to_dict(presets.preset(options.environment, options.preset))
    given = {name: getattr(options, name) for name in ("agents", "seed")}
    data["train"] |= {**given, "steps": options.schedule or options.steps, "checkpoints": [0]}
    for change in options.changes:
        name, value = change.split("=", 1)
        *path, last = name.split(".")
        section = data
        for part in path:
            section = section[part]
        section[last] = json.loads(value)
    return from_dict(data)


def newest(state: AgentState) -> tuple[Array, Array]:
    """Entropy of the search policies and standard deviation of the values of one agent's newest
    rows.
    """
    memory = state.replay
    at = (memory.written - 1 - jnp.arange(NEWEST)) % memory.weight.shape[0]
    policy = memory.rows.policy[at]
    entropy = -jnp.sum(jnp.where(policy > 0, policy * jnp.log(policy), 0.0), axis=-1)
    real = jnp.broadcast_to((jnp.arange(NEWEST) < memory.written)[:, None], entropy.shape)
    return jnp.mean(entropy, where=real), jnp.std(memory.rows.value[at], where=real)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environment", choices=sorted(SOLVED))
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--schedule", type=int, default=0)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("changes", nargs="*", help="setting=value, as in search.simulations=25")
    options = parser.parse_intermixed_args()
    if 0 < options.schedule < options.steps:
        parser.error("--schedule must not be shorter than --steps")
    runtime.prepare()
    config = changed(options)
    environment = envs.make(config.environment)
    population = Population(config)

    def test(agent, key):
        policy = muzero_policy(
            environment, agent, config.search, config.environment.discount, GREEDY
        )
        scores = play(environment, policy, 20, key)
        return jnp.mean(scores.score), jnp.mean(scores.length)

    print("changes:", " ".join(options.changes) or "none")

    tests = runtime.map_agents(test, population.mesh, per_agent=2)
    state, rounds, step, due, seconds = population.initial(), 0, 0, options.every, 0.0
    solved: list[int | None] = [None] * options.agents
    curve, episodes, total = [], 0.0, 0.0
    while step < options.steps:
        begin = time.monotonic()
        state, metrics = population.advance(state, rounds)
        jax.block_until_ready(metrics)
        seconds += time.monotonic() - begin
        episodes += float(np.sum(metrics.episodes))
        total += float(np.sum(metrics.score))
        rounds += config.train.call_rounds
        step = population.training_step(rounds)
        if step >= due or step >= options.steps:
            due += options.every
            looked = population.own(jax.jit(jax.vmap(newest))(state))
            entropy, spread = map(np.asarray, looked)
            keys = jax.random.split(jax.random.key(step), population.size)
            scores, lengths = map(np.asarray, population.own(tests(state.average, keys)))
            curve.append(scores)
            print(
                f"{step:>8} updates, {rounds * config.train.lanes:>8} steps, {seconds:5.0f} s:",
                np.round(scores.astype(float), 1).tolist(),
                f"length {lengths.mean():.0f},",
                f"training score {total / max(episodes, 1.0):.1f} of {episodes:.0f} episodes,",
                f"entropy {entropy.mean():.2f}, value spread {spread.mean():.2f}",
                flush=True,
            )
            episodes = total = 0.0
            for i, score in enumerate(scores):
                if solved[i] is None and score >= SOLVED[options.environment]:
                    solved[i] = rounds * config.train.lanes
    second_half = np.array(curve[len(curve) // 2 :])
    print("environment steps until solved:", solved)
    print("final return:", np.round(curve[-1].astype(float), 1).tolist())
    print(f"mean return, second half: {second_half.mean():.1f}")
    print(f"training seconds, compilation included: {seconds:.0f}")


if __name__ == "__main__":
    main()
