"""What the experiments cost: seconds per cell of a trained run, and how they grow.

    python benchmarks/evaluation.py RUN [--step STEP]

One call of each experiment for one bench of the run's agents at one checkpoint (the last by
default), timed twice: the first call compiles, or finds its
program in the compilation cache; the second is the cost.  A cell is one
agent, so seconds are divided by the agents of the bench.  Then Figures 3 and 4 again with one
setting doubled at a time.  Nothing is written to the run.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

from muscope import open_run, runtime
from muscope.config import EvaluateConfig
from muscope.experiments import registry
from muscope.experiments.lab import Lab, group_size
from muscope.experiments.plans import Plan, plan
from muscope.subjects import Subject


def seconds(subject: Subject, evaluate: EvaluateConfig, made: Plan) -> tuple[float, float]:
    """Seconds that the first call adds, and seconds per cell."""
    lab, size = Lab(subject, evaluate), group_size(subject.agents)
    (step,) = made.steps
    times = []
    for _ in range(2):
        bench = lab.bench([i % subject.agents for i in range(size)])
        if made.experiment.name != "figure2":
            bench.on_policy(step)  # Its time belongs to Figure 2.
        begin = time.perf_counter()
        made.experiment.run(bench, made.settings, step)
        times.append(time.perf_counter() - begin)
    return times[0] - times[1], times[1] / size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a trained run's directory")
    parser.add_argument("--step", type=int, help="training step; the last by default")
    options = parser.parse_args()
    runtime.prepare()
    run = open_run(options.run)
    subject = run.subject
    step = options.step or run.config.train.steps
    evaluate = dataclasses.replace(run.config.evaluate, checkpoints=(step,))
    given = {name: dict(of_one) for name, of_one in run.config.experiments.items()}
    for of_one in given.values():
        if "checkpoints" in of_one:
            of_one["checkpoints"] = [step]
    print(f"{subject.environment_name}, step {step}, {group_size(subject.agents)} agents at once")
    print(f"{'experiment':<12}{'setting':<26}{'first s':>10}{'s per cell':>12}")

    def row(name: str, setting: str, states: int = 0, **changes: Any) -> None:
        asked = dataclasses.replace(evaluate, states=states or evaluate.states)
        settings = {**given, name: {**given.get(name, {}), **changes}}
        (made,) = plan(subject, asked, settings, [name])
        compiling, each = seconds(subject, asked, made)
        print(f"{name:<12}{setting:<26}{compiling:>10.1f}{each:>12.3f}", flush=True)

    for name in registry.everything():
        row(name, "the run's")
    states, sequences = evaluate.states, given["figure3"]["sequences"]
    horizon, every = given["figure3"]["horizon"] or subject.unroll, given["figure4"]["horizon"]
    row("figure3", f"states {2 * states}", 2 * states)
    row("figure3", f"sequences {2 * sequences}", sequences=2 * sequences)
    row("figure3", f"horizon {2 * horizon}", horizon=2 * horizon)
    row("figure4", f"states {2 * states}", 2 * states)
    row("figure4", f"horizon {every + 1}", horizon=every + 1)


if __name__ == "__main__":
    main()
