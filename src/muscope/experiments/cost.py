"""What an experiment asks of a simulator on the host, told before it begins.

Environments on the device need no such warning: there the networks take most of the time.
"""

from __future__ import annotations

import functools
import sys
import time

import jax

from muscope.config import Config
from muscope.envs.base import Environment
from muscope.envs.host import HostEnvironment
from muscope.experiments.lab import checkpoints

WORTH_SAYING = 60.0  # s of simulation from which on it is announced
LANES = 64  # of the trial that measures a step's time


def host_steps(config: Config, environment: Environment, experiment: str) -> int:
    """The most steps of the true environment for one agent and checkpoint, all games played to
    the time limit and nothing remembered.
    """
    e, spec = config.evaluate, environment.spec
    horizon = e.horizon or config.loss.unroll
    game = spec.time_limit
    followed = e.states * e.sequences * horizon
    simulation = 1 + e.planning_horizon  # a new node and its rollout
    if experiment == "figure2":
        return 2 * e.episodes * game
    if experiment == "figure3":
        return followed
    if experiment == "endings":
        return e.states * e.sequences * (horizon + 1)
    if experiment == "figure4":
        return e.states * sum(spec.num_actions ** (d + 1) for d in range(e.sequence_horizon))
    if experiment == "figure5":
        return followed * len(checkpoints(config))
    if experiment == "figure6":
        return 2 * e.states * e.search_simulations * simulation
    if experiment == "figure7":
        # Per move of the learned model's planner one step, of the true one's the search too;
        # lanes with and without the prior.
        per_move = sum(
            2 + budget * (simulation if leaf == "rollout" else 1)
            for leaf in e.planning_leaves
            for budget in e.planning_simulations
        )
        moves = min(e.planning_steps or game, game)
        return 2 * e.planning_episodes * moves * (1 + per_move)
    if experiment == "decisions":
        follow = e.states * spec.num_actions * (1 + e.sequences * e.decision_horizon)
        return follow + 4 * e.states * e.planning_simulations[-1] * simulation
    return 0


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


def announce(config: Config, environment: Environment, experiment: str, cells: int) -> None:
    """Say how long a simulator may keep an experiment busy, if that is long.

    Args:
        config: the run's.
        environment: the true one.
        experiment: its name.
        cells: agents times checkpoints that are left.

    """
    if not isinstance(environment, HostEnvironment):
        return
    steps = cells * host_steps(config, environment, experiment)
    took = steps * seconds_per_step(environment)
    if took >= WORTH_SAYING:
        print(
            f"{experiment}: at most {steps:,} steps of the game, {took / 60:,.0f} min at "
            f"{steps / took:,.0f} a second; fewer where games end before the time limit.",
            file=sys.stderr,
        )
