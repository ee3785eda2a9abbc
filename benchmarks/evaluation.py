"""What the experiments cost: seconds per cell of a trained run, and how they grow.

    python benchmarks/evaluation.py RUN [--step STEP]

One call of each experiment for one block of the run's agents at one checkpoint (the last by
default), timed twice: the first call compiles, or finds its
program in the compilation cache; the second is the cost.  A cell is one
agent, so seconds are divided by the agents of the block.  Then Figures 3 and 4 again with one
setting doubled at a time.  Nothing is written to the run.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
from typing import Any

from muscope import open_run, runtime
from muscope.config import Config
from muscope.experiments.base import Experiment
from muscope.experiments.evaluate import EXPERIMENTS, load_agents
from muscope.experiments.lab import Lab, block_size
from muscope.storage.run import Run


def changed(config: Config, **settings: Any) -> Config:
    """The config with other settings of the evaluation."""
    return dataclasses.replace(config, evaluate=dataclasses.replace(config.evaluate, **settings))


def seconds(run: Run, config: Config, experiment: Experiment, step: int) -> tuple[float, float]:
    """Seconds that the first call adds, and seconds per cell."""
    lab = Lab(config, functools.partial(load_agents, run))
    lab.block = tuple(i % config.train.agents for i in range(block_size(config)))
    if experiment.name != "figure2":
        lab.on_policy(step)  # Its time belongs to Figure 2.
    times = []
    for _ in range(2):
        if experiment.name == "figure2":
            lab.forget()
        begin = time.perf_counter()
        experiment.run(lab, step)
        times.append(time.perf_counter() - begin)
    return times[0] - times[1], times[1] / len(lab.block)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a trained run's directory")
    parser.add_argument("--step", type=int, help="training step; the last by default")
    options = parser.parse_args()
    runtime.prepare()
    run = open_run(options.run)
    step = options.step or run.config.train.steps
    config = changed(run.config, checkpoints=(step,))
    print(f"{config.environment.name}, step {step}, {block_size(config)} agents at once")
    print(f"{'experiment':<12}{'setting':<26}{'first s':>10}{'s per cell':>12}")

    def row(name: str, setting: str, made: Config) -> None:
        compiling, each = seconds(run, made, EXPERIMENTS[name], step)
        print(f"{name:<12}{setting:<26}{compiling:>10.1f}{each:>12.3f}", flush=True)

    for name in EXPERIMENTS:
        row(name, "the run's", config)
    evaluate = config.evaluate
    states, sequences = evaluate.states, evaluate.sequences
    horizon = evaluate.horizon or config.loss.unroll
    row("figure3", f"states {2 * states}", changed(config, states=2 * states))
    row("figure3", f"sequences {2 * sequences}", changed(config, sequences=2 * sequences))
    row("figure3", f"horizon {2 * horizon}", changed(config, horizon=2 * horizon))
    row("figure4", f"states {2 * states}", changed(config, states=2 * states))
    longer = evaluate.sequence_horizon + 1
    row("figure4", f"sequence_horizon {longer}", changed(config, sequence_horizon=longer))


if __name__ == "__main__":
    main()
