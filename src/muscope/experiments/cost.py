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
import jax.numpy as jnp
from jaxtyping import Array, Key

from muscope.config import EvaluateConfig, Settings
from muscope.envs import Environment, State
from muscope.envs.base import play_out, training_view
from muscope.envs.host import HostEnvironment
from muscope.experiments import registry
from muscope.experiments.base import Experiment
from muscope.subjects import Subject
from muscope.work import Work, given, searching, total, within

WORTH_SAYING = 60.0  # s of simulation from which on it is announced
SHARED = "on-policy episodes"  # that experiments share
LANES = 64  # of the trial that measures a step's time


GIVEN = 32  # actions that are followed in one go


class Steps(NamedTuple):
    """Steps of the game, or seconds of one."""

    stepped: float
    """One after the other."""
    given: float
    """Of given actions, followed in one go, those after an end counted as if they were taken."""


@functools.cache
def seconds_per_step(environment: Any, truth: str) -> Steps:
    """Measured on a few random steps with all workers.

    Args:
        environment: on the host, under any wrappers.
        truth: ``evaluate.truth``, in whose problem rollouts go.

    """
    host = simulated(environment)
    assert host is not None
    states = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), LANES))
    step = jax.jit(jax.vmap(environment.step))
    computed, spent = 0, 0.0
    for i in range(4):
        key = jax.random.fold_in(jax.random.key(1), i)
        actions = jax.random.randint(key, (LANES,), 0, environment.spec.num_actions)
        start, before = time.perf_counter(), host.simulator.computed
        states = jax.block_until_ready(step(states, actions)).state
        if i:  # The first includes the compilation and the start of workers.
            spent += time.perf_counter() - start
            computed += host.simulator.computed - before
    stepped = spent / max(computed, 1)
    view = training_view(environment) if truth == "training" else environment
    if not (isinstance(view, HostEnvironment) and view.plays_in_one_go()):
        return Steps(stepped, stepped)
    return Steps(stepped, min(stepped, seconds_per_given(view, states, LANES)))


def seconds_per_given(environment: Environment, states: State, lanes: int) -> float:
    """Measured on random actions, as many as rollouts have.

    Args:
        environment: whose steps they are; its simulator is on the host.
        states: of ``lanes`` games.
        lanes: how many.

    """

    @jax.jit
    def follow(states: State, key: Key[Array, ""]) -> State:
        drawn = jax.random.randint(key, (lanes, GIVEN), 0, environment.spec.num_actions)
        length = jnp.int32(GIVEN)
        return jax.vmap(lambda s, a: play_out(environment, s, a, length))(states, drawn)

    jax.block_until_ready(follow(states, jax.random.key(0)))
    begin = time.perf_counter()
    jax.block_until_ready(follow(states, jax.random.key(1)))
    return (time.perf_counter() - begin) / (lanes * GIVEN)


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
    pieces = [piece for piece in pieces if piece.cells]
    environment: Any = subject.environment
    if simulated(environment) is None or not pieces:
        return
    steps = _steps_by_part(subject, pieces)
    most = int(sum(sum(part) for part in steps.values()))
    truths = {SHARED: pieces[0].evaluate.truth}
    truths |= {piece.experiment.name: piece.evaluate.truth for piece in pieces}
    each = {name: seconds_per_step(environment, truths[name]) for name in steps}
    seconds = {
        name: of.stepped * each[name].stepped + of.given * each[name].given
        for name, of in steps.items()
    }
    took = sum(seconds.values())
    uncounted = [p.experiment.name for p in pieces if p.experiment.work is None]
    if took < WORTH_SAYING and not uncounted:
        return
    parts = sorted(steps, key=lambda name: -seconds[name])
    shares = ", ".join(f"{name} {seconds[name] / took:.0%}" for name in parts if seconds[name])
    unknown = f"; {', '.join(uncounted)} not counted, no work is given" if uncounted else ""
    print(
        f"muscope: the evaluation takes at most {most:,} steps of the game, {took / 60:,.0f} min; "
        f"fewer where games end before the time limit ({shares}{unknown}). "
        f"{_shorter(pieces, parts)} shorten it, --figures chooses some.",
        file=sys.stderr,
    )


def _steps_by_part(subject: Subject, pieces: Sequence[Share]) -> dict[str, Steps]:
    """The most steps of the game by experiment, and of the episodes that they share."""
    steps: dict[str, Steps] = {}
    for experiment, evaluate, settings, cells in pieces:
        if experiment.work is not None:
            with registry.blamed(experiment, "work"):
                works = experiment.work(subject, evaluate, settings)
                known = len(cells) * given(works)
                steps[experiment.name] = Steps(
                    len(cells) * total(works, "environment") - known, known
                )
    shared = 0
    for evaluate in dict.fromkeys(piece.evaluate for piece in pieces):
        sharing = [p for p in pieces if p.experiment.states and p.evaluate == evaluate]
        played = {cell for piece in sharing for cell in piece.cells}
        shared += len(played) * total(on_policy(subject, evaluate), "environment")
    return {**steps, SHARED: Steps(shared, 0)}


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
