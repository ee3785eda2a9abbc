"""Figure 7: how far planning improves on the policy, with the learned and with the true model.

Table ``figure7``, one row per episode:

    agent    int    the agent, 0..P-1
    step     int    training step of the checkpoint
    model    str    'learned', 'true'; 'none' for the baselines, which do not plan
    prior    str    'policy', 'uniform'; of the baselines 'sampled' (a ~ pi_theta), 'greedy'
    leaf     str    'rollout', 'value'; 'none' for the baselines
    simulations  int  N per move, from which the most visited action is taken; 0 for the baselines
    episode  int    episode number; episodes of one agent and number start in the same state
    return   float  undiscounted return
    length   int    steps until termination or the time limit
    horizon  int    H: tree depth plus rollout length
    most_steps  int  moves after which an episode was cut; the time limit or fewer

and the settings every table has (:data:`muscope.storage.tables.SETTINGS`); this table's
``simulations`` takes the place of the run's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Bool, Int, Key
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.config import Config
from muscope.evaluation.planners import (
    LeafKind,
    Model,
    Planner,
    greedy_prior_policy,
    planner_policy,
)
from muscope.evaluation.play import Policy, Scores, play_from, prior_policy, starts
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Lab, chosen, interleave

MODELS: tuple[Model, ...] = ("learned", "true")
PRIORS = ("policy", "uniform")
BASELINES = ("sampled", "greedy")
SCHEMA = {
    "agent": pa.int64(),
    "step": pa.int64(),
    "model": pa.string(),
    "prior": pa.string(),
    "leaf": pa.string(),
    "simulations": pa.int64(),
    "episode": pa.int64(),
    "return": pa.float64(),
    "length": pa.int64(),
    "horizon": pa.int64(),
    "most_steps": pa.int64(),
}


def twice(lab: Lab, key: Key[Array, ""], policy: Callable[[Bool[Array, "E2"]], Policy]) -> Scores:
    """Episodes from every start twice, [2 E]; the policy is told which lanes are the first half."""
    evaluate = lab.config.evaluate
    start_key, act_key = jax.random.split(key)
    begin = starts(lab.environment, evaluate.planning_episodes, start_key)
    both = jax.tree.map(lambda x: jnp.concatenate([x, x]), begin)
    first = jnp.arange(2 * evaluate.planning_episodes) < evaluate.planning_episodes
    return play_from(lab.environment, policy(first), both, act_key, evaluate.planning_steps)


@functools.cache
def planned(model: Model, leaf: LeafKind) -> Callable[..., Scores]:
    """Episodes of a planner, half of the lanes with the policy's prior, half without."""

    def one(lab: Lab, agent: Agent, key: Key[Array, ""], budget: Int[Array, ""]) -> Scores:
        evaluate = lab.config.evaluate
        planner = Planner(model, leaf, evaluate.planning_horizon)
        config = replace(lab.config.search, simulations=evaluate.planning_simulations[-1])

        def policy(guided: Bool[Array, "E2"]) -> Policy:
            return planner_policy(planner, lab.truth, agent, guided, config, lab.discount, budget)

        return twice(lab, key, policy)

    return one


def baselines(lab: Lab, agent: Agent, key: Key[Array, ""]) -> Scores:
    """The policy prior from the same starts: half of the lanes sampled, half greedy."""
    sampled = prior_policy(lab.environment, agent)
    best = greedy_prior_policy(lab.environment, agent)

    def policy(is_sampled: Bool[Array, "E2"]) -> Policy:
        return lambda states, key: jnp.where(is_sampled, sampled(states, key), best(states, key))

    return twice(lab, key, policy)


def halves(scores: Scores) -> tuple[Scores, Scores]:
    """Agents' scores [B, 2 E] by halves of their lanes."""
    first, second = (
        jax.tree.map(lambda x, i=i: np.split(np.asarray(x), 2, axis=1)[i], scores) for i in (0, 1)
    )
    return first, second


def run(lab: Lab, step: int) -> Tables:
    """All planners and baselines at one checkpoint."""
    agents, evaluate = lab.agents(step), lab.config.evaluate
    limit = lab.environment.spec.time_limit
    # The same key at every checkpoint: all planners start in the same states.
    keys = lab.keys(0, 6)
    parts = []

    def add(model: str, prior: str, leaf: str, budget: int, scores: Scores) -> None:
        parts.append(
            lab.table(
                SCHEMA,
                step,
                model=np.array(model),
                prior=np.array(prior),
                leaf=np.array(leaf),
                simulations=budget,
                episode=np.arange(evaluate.planning_episodes),
                **{"return": np.asarray(scores.score), "length": np.asarray(scores.length)},
                horizon=evaluate.planning_horizon,
                most_steps=min(evaluate.planning_steps or limit, limit),
            )
        )

    for baseline, scores in zip(BASELINES, halves(lab.call(baselines, agents, keys)), strict=True):
        add("none", baseline, "none", 0, scores)
    for model in MODELS:
        for leaf in evaluate.planning_leaves:
            program = planned(model, cast(LeafKind, leaf))
            for budget in evaluate.planning_simulations:
                scores = lab.call(program, agents, keys, shared=(jnp.int32(budget),))
                for prior, half in zip(PRIORS, halves(scores), strict=True):
                    add(model, prior, leaf, budget, half)
    return {"figure7": interleave(parts, len(lab.block))}


def plot(given: Tables) -> Figure:
    """Return against simulations, a column per checkpoint and a row per leaf; the leaves side by
    side if there is one checkpoint.
    """
    table = given["figure7"]
    steps = sorted(set(table["step"].to_pylist()))
    leaves = [leaf for leaf in ("rollout", "value") if leaf in set(table["leaf"].to_pylist())]
    budgets = sorted(set(table["simulations"].to_pylist()) - {0})
    with style.context():
        columns = len(steps) if len(steps) > 1 else len(leaves)
        figure, panels = style.grid(len(steps) * len(leaves), columns)
        for axes, (leaf, step) in zip(
            panels, [(leaf, step) for leaf in leaves for step in steps], strict=True
        ):
            for model in MODELS:
                for prior, linestyle in zip(PRIORS, ("-", ":"), strict=True):
                    _, points = statistics.by(
                        table,
                        "return",
                        "simulations",
                        step=step,
                        model=model,
                        prior=prior,
                        leaf=leaf,
                    )
                    style.band(
                        axes,
                        budgets,
                        [s.mean for s in points],
                        [s.standard_error for s in points],
                        style.MODEL_COLOURS[model],
                        f"{model} model, {prior} prior",
                        linestyle=linestyle,
                    )
            for baseline, dashes in zip(BASELINES, ((4.0, 2.0), (1.0, 1.5)), strict=True):
                mean = statistics.over_agents(
                    *statistics.select(table, "return", step=step, prior=baseline)
                ).mean
                style.thin(axes, budgets, [mean] * len(budgets), dashes, f"prior alone, {baseline}")
            axes.set_xscale("log", base=2)
            axes.set_xticks(budgets, [str(b) for b in budgets])
            axes.minorticks_off()
            axes.set_title(f"{style.thousands(step)} steps\n{leaf} leaves", fontsize=9)
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
            axes.set_xlabel("simulations")
        for axes in panels[::columns]:
            axes.set_ylabel("return")
        style.legend_below(figure, panels[0], columns=min(columns, 2))
        return figure


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["figure7"]
    agents = len(set(table["agent"].to_pylist()))
    episodes = len(set(table["episode"].to_pylist()))
    return (
        "Return of acting greedily by the visits of a search in the learned model (orange) and in "
        "the true one (green), guided by the policy prior (solid) or by a uniform one (dotted), "
        f"against simulations per move; planning horizon {table['horizon'][0]}. Rollout leaves are "
        "valued by random actions in the same model, value leaves by the value network. Thin "
        f"lines: the policy prior without planning. Means over {agents} agents, {episodes} "
        f"episodes each from the same starts, of at most {table['most_steps'][0].as_py():,} moves; "
        "bands are one standard error over agents."
    )


def settings(config: Config) -> dict[str, object]:
    """What Figure 7's rows depend on."""
    evaluate = config.evaluate
    return {
        name: getattr(evaluate, name)
        for name in (
            "planning_simulations",
            "planning_horizon",
            "planning_leaves",
            "planning_episodes",
            "planning_steps",
        )
    }


def checkpoints(config: Config) -> tuple[int, ...]:
    """The checkpoints of Figure 7."""
    return chosen(config, config.evaluate.planning_checkpoints, "evaluate.planning_checkpoints")


EXPERIMENT: Experiment = Experiment(
    name="figure7",
    title="Figure 7: planning with the learned and with the true model",
    settings=settings,
    run=run,
    plot=plot,
    caption=caption,
    steps=checkpoints,
)
