"""What an evaluation asks of a simulator on the host, told before it begins.

Environments on the device need no such warning: there the networks take most of the time.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Hashable, Sequence, Set
from typing import Any, NamedTuple

import jax

from muscope.config import EvaluateConfig, Settings
from muscope.envs.host import HostEnvironment
from muscope.experiments import registry
from muscope.experiments.base import Experiment
from muscope.subjects import Subject
from muscope.work import Work, searching, total, within

WORTH_SAYING = 60.0  # s of simulation from which on it is announced
SHARED = "on-policy episodes"  # that experiments share
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


class Share(NamedTuple):
    """What one experiment is asked for."""

    experiment: Experiment
    evaluate: EvaluateConfig
    settings: Settings
    cells: Set[Hashable]
    """Agents at checkpoints that are to be examined."""


def announce(subject: Subject, pieces: Sequence[Share]) -> None:
    """Say how long a simulator may keep an evaluation busy, and what shortens that, if it is long.

    Args:
        subject: whose environment may be on the host.
        pieces: all of the evaluation.

    """
    environment = simulated(subject.environment)
    pieces = [piece for piece in pieces if piece.cells]
    if environment is None or not pieces:
        return
    steps = _steps_by_part(subject, pieces)
    most = sum(steps.values())
    took = most * seconds_per_step(environment)
    uncounted = [p.experiment.name for p in pieces if p.experiment.work is None]
    if took < WORTH_SAYING and not uncounted:
        return
    parts = sorted(steps, key=lambda name: -steps[name])
    shares = ", ".join(f"{name} {steps[name] / most:.0%}" for name in parts if steps[name])
    unknown = f"; {', '.join(uncounted)} not counted, no work is given" if uncounted else ""
    print(
        f"muscope: the evaluation takes at most {most:,} steps of the game, {took / 60:,.0f} min "
        f"at {most / took if took else 0:,.0f} a second; fewer where games end before the time "
        f"limit ({shares}{unknown}). {_shorter(pieces, parts)} shorten it, --figures chooses some.",
        file=sys.stderr,
    )


def _steps_by_part(subject: Subject, pieces: Sequence[Share]) -> dict[str, int]:
    """The most steps of the game by experiment, and of the episodes that they share."""
    steps: dict[str, int] = {}
    for experiment, evaluate, settings, cells in pieces:
        if experiment.work is not None:
            with registry.blamed(experiment, "work"):
                each = total(experiment.work(subject, evaluate, settings), "environment")
            steps[experiment.name] = len(cells) * each
    shared = 0
    for evaluate in dict.fromkeys(piece.evaluate for piece in pieces):
        sharing = [p for p in pieces if p.experiment.states and p.evaluate == evaluate]
        played = {cell for piece in sharing for cell in piece.cells}
        shared += len(played) * total(on_policy(subject, evaluate), "environment")
    return {**steps, SHARED: shared}


def _shorter(pieces: Sequence[Share], parts: Sequence[str]) -> str:
    """The flags of the two costliest parts."""
    settings = {piece.experiment.name: piece.settings for piece in pieces}
    flags = [
        f"--{part}.{field.name}".replace("_", "-")
        for part in parts[:2]
        if part in settings
        for field in dataclasses.fields(settings[part])
    ]
    return ", ".join(["--evaluate.checkpoints, --evaluate.episodes, --evaluate.states", *flags])


def on_policy(subject: Subject, evaluate: EvaluateConfig) -> list[Work]:
    """One agent's on-policy episodes at one checkpoint, which experiments share."""
    limit, lanes = subject.environment.spec.time_limit, evaluate.episodes
    searches = searching(limit, lanes, (subject.search.simulations,))
    return within([*searches, Work("environment", limit, lanes)], "on-policy", limit)


def simulated(environment: Any) -> HostEnvironment | None:
    """The environment on the host under any wrappers, if there is one."""
    while not isinstance(environment, HostEnvironment):
        environment = getattr(environment, "environment", None)
        if environment is None:
            return None
    return environment
