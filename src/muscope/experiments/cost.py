"""What an experiment asks of a simulator on the host, told before it begins.

Environments on the device need no such warning: there the networks take most of the time.
"""

from __future__ import annotations

import functools
import sys
import time
from typing import Any

import jax

from muscope.config import EvaluateConfig
from muscope.envs.host import HostEnvironment
from muscope.experiments.base import Experiment
from muscope.subjects import Subject
from muscope.work import Work, searching, total, within

WORTH_SAYING = 60.0  # s of simulation from which on it is announced
LANES = 64  # of the trial that measures a step's time


@functools.cache
def seconds_per_step(environment: HostEnvironment) -> float:
    """Measured on a few random steps with all workers."""
    states = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), LANES))
    step = jax.jit(jax.vmap(environment.step))
    computed, spent = 0, 0.0
    for i in range(4):
        key = jax.random.fold_in(jax.random.key(1), i)
        actions = jax.random.randint(key, (LANES,), 0, environment.spec.num_actions)
        start, before = time.perf_counter(), environment.simulator.computed
        states = jax.block_until_ready(step(states, actions)).state
        if i:  # The first includes the compilation and the start of workers.
            spent += time.perf_counter() - start
            computed += environment.simulator.computed - before
    return spent / max(computed, 1)


def announce(
    subject: Subject, evaluate: EvaluateConfig, experiment: Experiment, settings: Any, cells: int
) -> None:
    """Say how long a simulator may keep an experiment busy, if that is long or not known.

    Args:
        subject: whose environment is on the host.
        evaluate: the settings that experiments share.
        experiment: which.
        settings: its own.
        cells: agents times checkpoints that are left.

    """
    environment = simulated(subject.environment)
    if environment is None:
        return
    if experiment.work is None:
        print(f"{experiment.name}: its work is not known; it gives none.", file=sys.stderr)
        return
    steps = total(experiment.work(subject, evaluate, settings), "environment")
    _say(environment, experiment.name, cells * steps)


def on_policy(subject: Subject, evaluate: EvaluateConfig) -> list[Work]:
    """One agent's on-policy episodes at one checkpoint, which experiments share."""
    limit, lanes = subject.environment.spec.time_limit, evaluate.episodes
    searches = searching(limit, lanes, (subject.search.simulations,))
    return within([*searches, Work("environment", limit, lanes)], "on-policy", limit)


def announce_states(subject: Subject, evaluate: EvaluateConfig, cells: int) -> None:
    """The same of the on-policy episodes, which experiments share.

    Args:
        subject: whose environment is on the host.
        evaluate: the settings that experiments share.
        cells: agents times checkpoints whose episodes are played.

    """
    environment = simulated(subject.environment)
    if environment is not None:
        steps = total(on_policy(subject, evaluate), "environment")
        _say(environment, "on-policy episodes", cells * steps)


def simulated(environment: Any) -> HostEnvironment | None:
    """The environment on the host under any wrappers, if there is one."""
    while not isinstance(environment, HostEnvironment):
        environment = getattr(environment, "environment", None)
        if environment is None:
            return None
    return environment


def _say(environment: HostEnvironment, what: str, steps: int) -> None:
    took = steps * seconds_per_step(environment)
    if took >= WORTH_SAYING:
        print(
            f"{what}: at most {steps:,} steps of the game, {took / 60:,.0f} min at "
            f"{steps / took:,.0f} a second; fewer where games end before the time limit.",
            file=sys.stderr,
        )
