"""Two Ray workers on two cores against what the cores allow.

The same study's jobs are worked through by one worker on one core and by two on two; with two the
study should take half as long.  The ratio says how much longer it takes.
Programs are compiled beforehand into a cache that all share, and Ray's own start counts.

    python benchmarks/cluster.py            # about ten minutes on two idle cores
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")  # A worker has one core.

from muscope import presets, studies
from muscope.config import Config, RayConfig

FIGURES = ["figure2", "figure3", "figure4", "endings"]
CORES = 2


def config(agents: int, steps: int) -> Config:
    """Cart Pole's quick settings in blocks of one agent, so that there are enough jobs."""
    quick = presets.preset("cart-pole", "quick")
    train = dataclasses.replace(
        quick.train, agents=agents, block=1, steps=steps, checkpoints=(0, steps // 2)
    )
    return dataclasses.replace(quick, train=train)


def seconds(asked: Config, place: Path, workers: int) -> float:
    """Wall time of a study's jobs on as many cores as workers, its report included."""
    os.sched_setaffinity(0, range(workers))  # Ray's processes have it from this one.
    begin = time.perf_counter()
    options = RayConfig(cpus_per_job=CORES / workers)
    studies.study(asked, place, FIGURES, options)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=8, help="blocks of one agent")
    parser.add_argument("--steps", type=int, default=2_000, help="training steps")
    options = parser.parse_args()
    asked = config(options.agents, options.steps)
    with tempfile.TemporaryDirectory() as place:
        seconds(config(1, options.steps), Path(place) / "warm", 1)
        one = seconds(asked, Path(place) / "one", 1)
        two = seconds(asked, Path(place) / "two", 2)
    print(f"{options.agents} blocks: one worker at a time {one:.0f} s, two {two:.0f} s")
    print(f"ratio to half the time of one: {two / (one / CORES):.2f}")


if __name__ == "__main__":
    main()
