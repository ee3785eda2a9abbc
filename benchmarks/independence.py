"""For how many steps an agent alone equals the same agent inside a population.

    python benchmarks/independence.py [--agents 8] [--member 5] [--steps 2000]

Both start from identical bits.  Batched products are summed in another order for another
number of agents, so parameters differ in the last digits after the first update, and one
day two nearly equal scores in a search fall the other way: from then on the two agents see
different data.  Prints the relative difference of the parameters along the way and the
training step at which the first action in the replay differs.
"""

from __future__ import annotations

import argparse
import dataclasses

import jax
import numpy as np

from muscope import presets, runtime
from muscope.training.population import Population


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--member", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    runtime.prepare()
    config = presets.preset("cart-pole", "strong-quick")

    def population(agents: int) -> Population:
        train = dataclasses.replace(config.train, agents=agents)
        return Population(dataclasses.replace(config, train=train))

    many, single = population(options.agents), population(1)
    together = many.initial()
    alone = single.place(jax.tree.map(lambda x: x[options.member : options.member + 1], together))
    rounds = step = 0
    while step < options.steps:
        together, _ = many.advance(together, rounds)
        alone, _ = single.advance(alone, rounds)
        rounds += config.train.call_rounds
        step = many.training_step(rounds)
        difference = max(
            float(np.max(np.abs(np.asarray(x[options.member]) - np.asarray(y[0]))))
            / max(float(np.max(np.abs(np.asarray(y[0])))), 1e-12)
            for x, y in zip(
                jax.tree.leaves(together.agent), jax.tree.leaves(alone.agent), strict=True
            )
        )
        same = np.asarray(together.replay.rows.action[options.member]) == np.asarray(
            alone.replay.rows.action[0]
        )
        print(f"step {step:5d}: largest relative difference of a parameter {difference:.1e}")
        if not same[:rounds].all():
            first = int(np.argmin(same[:rounds].all(axis=1)))
            print(
                f"first different action in round {first}, after training step "
                f"{many.training_step(first)}"
            )
            return
    print(f"no action differs in {step} training steps ({rounds} rounds)")


if __name__ == "__main__":
    main()
