"""Training throughput of muscope beside mujax, on the same CPU cores, in one run.

    python benchmarks/training.py [--seconds 20]

What is measured: gradient updates ("training steps") per second of whole training, that is
acting in Cart Pole with a search per move, replay, targets and updates, without checkpoints
and evaluation.  One variant runs at a time:

* mujax 0.1.3 (Gumbel MuZero, the nearest of its algorithms), one agent, through its
  ``run_experiment``, in a process and a virtual environment of its own, which is made if it is
  missing; it gets the same version of JAX as muscope;
* muscope, one agent and a population, through ``Population.advance``.

Both without Reanalyse, and both with it.  mujax searches whole sequences of ``unroll + 1``
positions again, of which one per update is the least, so muscope runs with as many positions
per update (the like-for-like pair) and with its default.

How: every variant first does ``WARMUP_UPDATES`` updates, in which all compilation happens (no
program comes from a cache), then updates are counted for ``--seconds``.  The time of the
warm-up is reported as "start-up", and XLA's share of it (summed over threads) as "compiling";
should anything be compiled while the clock runs, the table says so.  mujax counts updates in
hundreds and acts in chunks, so a few seconds are too short for it: "env steps/update" is then
off.  Settings are muscope's "quick" preset; the output lists everything in which mujax differs.
Nothing is asserted about the times: other work on the machine changes them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import time
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.monitoring
import numpy as np

from muscope import presets, runtime
from muscope.config import Config
from muscope.training.population import Population

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).with_name("_mujax_worker.py")
PINS = (
    "distrax==0.1.9",
    "flashbax==0.1.3",
    "flax==0.12.8",
    "gymnasium==1.4.0",
    "mctx==0.0.71",
    "rlax==0.1.9",
    "mujax==0.1.3",
    # The libraries that both use, in muscope's versions.
    *(f"{name}=={version(name)}" for name in ("jax", "jaxlib", "numpy", "optax")),
)
WARMUP_UPDATES = 200

DIFFERENCES = (
    "network: mujax gives the policy, the value and the reward a hidden layer of their own each, "
    "and has symlog inputs, LayerNorm, SiLU, min-max scaled latents and no residual connection "
    "(muscope: the policy and the value share one, the reward shares the dynamics', linear inputs, "
    "ReLU, standardised latents, residual); its reward head has as many bins as its value "
    "head (muscope: {reward_bins})",
    "search: mujax runs mctx's Gumbel MuZero search, without Dirichlet noise and temperature "
    "(muscope: MuZero's pUCT search with both)",
    "targets: mujax encodes values and rewards as HL-Gauss histograms in symlog units (muscope: "
    "two-hot in MuZero's h units)",
    "replay: mujax draws uniformly (muscope: by priority, with importance "
    "weights and new priorities after every update)",
    "Reanalyse: mujax searches {sequence} successive positions of a drawn sequence, for that "
    "update only (muscope: positions drawn one by one, results kept in the replay)",
    "acting: mujax keeps to {env_steps:g} environment step(s) per update on average, in chunks of "
    "{window} steps per lane (muscope: exactly, in every round of {lanes} steps and {updates} "
    "updates)",
    "environment: mujax steps Gymnasium's CartPole-v1 in Python (muscope: its own, compiled)",
    "learning rate: mujax keeps it constant after the warm-up (muscope: cosine decay)",
    "cores: mujax acts in one thread and learns in another, so that one agent may use several "
    "cores (muscope: one agent runs on one device, a population on one device per core)",
)


class CompileClock:
    """Seconds that XLA has spent compiling in this process."""

    def __init__(self) -> None:
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def _add(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.seconds += duration_secs


class Measured(NamedTuple):
    """One variant's result."""

    updates_per_second: float
    """Of all agents together."""
    env_steps_per_update: float
    startup: float
    compiling: float
    compiling_while_timed: float
    parameters: int
    """Of one agent."""
    versions: dict[str, str]


class Variant(NamedTuple):
    """What is run, and which mujax variant it is compared with."""

    package: str
    agents: int
    reanalysed: float
    """Positions searched again per update."""
    beside: float
    """The same of the mujax variant that it is compared with."""


def configure(agents: int, reanalysed: float) -> Config:
    """The "quick" preset with other numbers of agents and of reanalysed positions per update."""
    config = presets.preset("cart-pole", "strong-quick")
    train = dataclasses.replace(
        config.train,
        agents=agents,
        # So many that no schedule ends, and calls are not cut short by a checkpoint.
        steps=1_000_000,
        checkpoints=(),
        reanalyse_ratio=reanalysed / env_steps_per_update(config),
    )
    return dataclasses.replace(config, train=train)


def env_steps_per_update(config: Config) -> float:
    return config.train.lanes / config.train.updates_per_round


def default_reanalysed(config: Config) -> float:
    return config.train.reanalyse_ratio * env_steps_per_update(config)


def measure_muscope(config: Config, seconds: float, clock: CompileClock) -> Measured:
    """Advance a population, in this process."""
    began, compiled = time.perf_counter(), clock.seconds
    population = Population(config)
    state = population.initial()
    rounds = 0

    def advance() -> int:
        nonlocal state, rounds
        state, metrics = population.advance(state, rounds)
        rounds += config.train.call_rounds
        # Waits for the call to finish, as muscope's training does to write its log.
        return int(np.sum(metrics.updates))

    while population.training_step(rounds) < WARMUP_UPDATES:
        advance()
    start, ready = time.perf_counter(), clock.seconds
    updates, elapsed = 0, 0.0
    while elapsed < seconds:
        updates += advance()
        elapsed = time.perf_counter() - start
    return Measured(
        updates_per_second=updates / elapsed,
        env_steps_per_update=env_steps_per_update(config),
        startup=start - began,
        compiling=ready - compiled,
        compiling_while_timed=clock.seconds - ready,
        parameters=sum(x.size for x in jax.tree.leaves(state.agent)) // config.train.agents,
        versions={name: version(name) for name in ("muscope", "jax", "equinox")},
    )


def prepare_mujax(directory: Path) -> Path:
    """The python of mujax's virtual environment, made or completed if need be."""
    python = directory / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        print(f"making {directory.name} ...", flush=True)
        venv.create(directory, with_pip=True)
    code = (
        "import importlib.metadata as m, sys; "
        "sys.exit(any(m.version(n) != v for n, v in (p.split('==') for p in sys.argv[1:])))"
    )
    checked = subprocess.run([python, "-c", code, *PINS], stderr=subprocess.DEVNULL, check=False)
    if checked.returncode:
        print(f"installing mujax in {directory.name} ...", flush=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS], check=True)
    return python


def mujax_settings(config: Config, reanalysed: float, seconds: float) -> dict[str, Any]:
    """What the worker needs to know of muscope's settings."""
    network, loss, optimiser = config.network, config.loss, config.optimiser
    return {
        "seconds": seconds,
        "warmup_updates": WARMUP_UPDATES,
        "seed": config.train.seed,
        "width": network.width,
        "latent": network.latent,
        "value_bins": network.value_bins,
        "discount": config.environment.discount,
        "unroll": loss.unroll,
        "n_step": loss.n_step,
        "value_weight": loss.value_weight,
        "simulations": config.search.simulations,
        "capacity": config.replay.capacity,
        "start": config.replay.start,
        "lanes": config.train.lanes,
        "env_steps_per_update": env_steps_per_update(config),
        "reanalysed_sequences": round(reanalysed / (loss.unroll + 1)),
        "batch_size": config.train.batch_size,
        "learning_rate": optimiser.learning_rate,
        "warmup": optimiser.warmup,
        "weight_decay": optimiser.weight_decay,
        "clip": optimiser.clip,
    }


def measure_mujax(python: Path, settings: dict[str, Any]) -> Measured:
    """Run the worker, which inherits this process's CPU cores."""
    done = subprocess.run(
        [python, WORKER, json.dumps(settings)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"},
    )
    if done.returncode:
        raise SystemExit(f"mujax failed:\n{done.stderr}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def variants(config: Config, agents: int) -> list[Variant]:
    """All rows of the table; mujax comes first, for the others are compared with it."""
    sequence = config.loss.unroll + 1
    rows = [Variant("mujax", 1, 0, 0), Variant("mujax", 1, sequence, sequence)]
    for count in (1, agents):
        rows.append(Variant("muscope", count, 0, 0))
        rows.append(Variant("muscope", count, sequence, sequence))
        rows.append(Variant("muscope", count, default_reanalysed(config), sequence))
    return rows


def print_header(config: Config) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"CPU cores: {cores}   JAX devices of muscope: {jax.local_device_count()}")
    print(
        f"Cart Pole, width {config.network.width}, latent {config.network.latent}, "
        f"{config.network.value_bins} value bins, batch {config.train.batch_size}, "
        f"unroll {config.loss.unroll}, {config.loss.n_step}-step returns, "
        f"{config.search.simulations} simulations, {config.train.lanes} environments per agent"
    )
    print("mujax differs in:")
    facts = {
        "reward_bins": config.network.reward_bins,
        "sequence": config.loss.unroll + 1,
        "window": config.loss.unroll + config.loss.n_step + 1,
        "env_steps": env_steps_per_update(config),
        "lanes": config.train.lanes,
        "updates": config.train.updates_per_round,
    }
    for difference in DIFFERENCES:
        print("  -", difference.format(**facts))


COLUMNS = (
    ("package", 8),
    ("agents", 7),
    ("reanalysed/update", 18),
    ("env steps/update", 17),
    ("updates/s/agent", 16),
    ("agent-updates/s", 16),
    ("ratio to mujax", 15),
    ("start-up s", 11),
    ("compiling s", 12),
)


def print_row(variant: Variant, measured: Measured, mujax: Measured) -> None:
    """One line of the table; the ratio is of agent-updates per second."""
    own = variant.package == "mujax"
    cells = (
        variant.package,
        f"{variant.agents}",
        f"{variant.reanalysed:g}",
        f"{measured.env_steps_per_update:.2f}",
        f"{measured.updates_per_second / variant.agents:.1f}",
        f"{measured.updates_per_second:.1f}",
        "" if own else f"{measured.updates_per_second / mujax.updates_per_second:.2f}",
        f"{measured.startup:.1f}",
        f"{measured.compiling:.1f}",
    )
    line = "".join(cell.rjust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    late = measured.compiling_while_timed
    print(line + (f"  ({late:.1f} s compiling while timed)" if late > 0.05 else ""), flush=True)


def run(python: Path, agents: int, seconds: float) -> None:
    clock = CompileClock()
    base = presets.preset("cart-pole", "strong-quick")
    print_header(base)
    print("".join(name.rjust(width) for name, width in COLUMNS), flush=True)
    baselines: dict[float, Measured] = {}
    results: dict[str, Measured] = {}
    for variant in variants(base, agents):
        if variant.package == "mujax":
            settings = mujax_settings(base, variant.reanalysed, seconds)
            measured = baselines[variant.reanalysed] = measure_mujax(python, settings)
        else:
            config = configure(variant.agents, variant.reanalysed)
            measured = measure_muscope(config, seconds, clock)
        results[variant.package] = measured
        print_row(variant, measured, baselines[variant.beside])
    print(
        f"The ratio is of agent-updates/s to mujax with {base.loss.unroll + 1} reanalysed "
        "positions, or to mujax with 0 where there are 0.\n"
        "mujax trains one agent per process; its rows are the throughput of one process."
    )
    for package, measured in results.items():
        versions = ", ".join(f"{name} {number}" for name, number in measured.versions.items())
        print(f"{package}: {measured.parameters} parameters per agent; {versions}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Training throughput of muscope beside mujax.")
    parser.add_argument("--seconds", type=float, default=20.0, help="timed, per variant")
    parser.add_argument("--agents", type=int, default=4, help="of the population")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-mujax", help="mujax's own")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    python = prepare_mujax(arguments.venv)
    # Compilation is measured, too.
    jax.config.update("jax_enable_compilation_cache", False)
    runtime.prepare()
    run(python, arguments.agents, arguments.seconds)


if __name__ == "__main__":
    main()
