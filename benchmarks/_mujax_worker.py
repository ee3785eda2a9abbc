"""mujax's side of ``training.py``: trains one agent and prints one JSON line.

Runs in mujax's own virtual environment and is started by ``training.py``; its argument is the
JSON table of settings that ``training.py`` makes from muscope's configuration.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.monitoring
from mujax import ExperimentConfig, GMZConfig, loggers, run_experiment


class CompileClock:
    """Seconds that XLA has spent compiling in this process."""

    def __init__(self) -> None:
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def _add(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.seconds += duration_secs


class Mark(NamedTuple):
    """How far the learner was, and when."""

    time: float
    updates: int
    env_steps: float
    compiled: float


class Stopwatch:
    """A mujax ``Writer`` that times the learner and stops the run when it has seen enough.

    mujax's own loop stays untouched: the learner writes every 100 updates, with its metrics
    fetched from the device, so a mark never counts work that is still queued.
    """

    def __init__(self, warmup_updates: int, seconds: float) -> None:
        self.warmup_updates, self.seconds = warmup_updates, seconds
        self.compile_clock = CompileClock()
        self.start: Mark | None = None
        self.end: Mark | None = None

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        env_steps = scalars.get("learner/actor_steps")
        if env_steps is None or self.end is not None:  # The actor's metrics, or too late.
            return
        mark = Mark(time.perf_counter(), step, env_steps, self.compile_clock.seconds)
        if self.start is None:
            self.start = mark if step >= self.warmup_updates else None
        elif mark.time - self.start.time >= self.seconds:
            self.end = mark
            # What mujax documents for a run without a number of steps: Ctrl-C ends it in order.
            signal.raise_signal(signal.SIGINT)

    def write_config(self, config: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


def agent_config(s: Mapping[str, Any]) -> GMZConfig:
    """Options for muscope's settings; ``training.py`` lists those that mujax cannot match."""
    layers = (s["width"],)
    return GMZConfig(
        effective_horizon=1.0 / (1.0 - s["discount"]),
        num_unroll_steps=s["unroll"],
        num_bootstrapping=s["n_step"],
        bootstrapping_lambda=1.0,  # Plain n-step returns.
        num_simulations=s["simulations"],
        # symlog's [-7, 7] covers returns up to 1,096; Cart Pole's stay below 334.
        support_min=-7.0,
        support_max=7.0,
        num_bins=s["value_bins"],
        policy_unimix=0.0,
        max_replay_size=s["capacity"],
        min_replay_size=s["start"],
        # Sequences sampled per transition; one update samples batch_size of them.
        replay_ratio=s["batch_size"] / s["env_steps_per_update"],
        reanalyze_ratio=s["reanalysed_sequences"] / s["batch_size"],
        batch_size=s["batch_size"],
        learning_rate=s["learning_rate"],
        lr_warmup_steps=s["warmup"],
        weight_decay=s["weight_decay"],
        max_grad_norm=s["clip"],
        value_loss_weight=s["value_weight"],
        representation_layer_sizes=layers,
        prediction_layer_sizes=layers,
        dynamics_layer_sizes=layers,
        embedding_dim=s["latent"],
        variable_update_period=1,  # Always act with the latest parameters.
    )


def environments(count: int) -> gym.vector.VectorEnv:
    """What mujax's command line makes."""
    return gym.make_vec(
        "CartPole-v1",
        num_envs=count,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP},
    )


def measure(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Train until the stopwatch ends it."""
    stopwatch = Stopwatch(settings["warmup_updates"], settings["seconds"])
    loggers.LOG_EVERY["learner"] = 0.0  # Its 10 s between writes would be too coarse a clock.
    began = time.perf_counter()
    learner = run_experiment(
        ExperimentConfig(
            config=agent_config(settings),
            environment_factory=lambda seed: environments(settings["lanes"]),
            writer=stopwatch,
            seed=settings["seed"],
        )
    )
    start, end = stopwatch.start, stopwatch.end
    if start is None or end is None:
        raise SystemExit("stopped before the measurement was over.")
    updates = end.updates - start.updates
    return {
        "updates_per_second": updates / (end.time - start.time),
        "env_steps_per_update": (end.env_steps - start.env_steps) / updates,
        "startup": start.time - began,
        "compiling": start.compiled,
        "compiling_while_timed": end.compiled - start.compiled,
        "parameters": sum(x.size for x in jax.tree.leaves(learner.get_params()[0])),
        "versions": {name: version(name) for name in ("mujax", "jax", "mctx", "flax")},
    }


def main() -> None:
    with contextlib.redirect_stdout(sys.stderr):  # mujax prints, too.
        result = measure(json.loads(sys.argv[1]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
