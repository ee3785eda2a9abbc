"""Beyond the paper: what each planner's decision is worth, and whether model error explains it.

At on-policy states, every action is valued in the true environment: Q(s, a) is the discounted
return of taking it and then following the policy prior.  A planner's improvement is the Q of
the action it chooses (mean over equally visited ones) less the prior's own mean, the quantity
that the policy improvement theorem asks to be positive.

Table ``decisions``, one row per (agent, checkpoint, state, model, prior):

    agent    int    the agent, 0..P-1
    step     int    training step of the checkpoint
    state    int    number of the state, 0..M-1
    model    str    'learned', 'true': what the search plans with
    prior    str    'policy', 'uniform': what guides it
    improvement  float  Q(s, a_planner) - sum_a pi(a | s) Q(s, a)
    best         float  max_a Q(s, a) - sum_a pi(a | s) Q(s, a): the most any planner could get;
                        a chosen on one half of the episodes, valued on the other
    model_error  float  the learned model's value error (Definition 1) at this state, mean over
                        the trajectories that its search simulates under the same prior
    horizon      int    H of the search; leaves are valued by rollouts
    q_horizon    int    steps of the prior after the action
    n_sequences  int    R, episodes of the prior per action, with common random numbers

and the settings every table has; this table's ``simulations`` is that of the search.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.config import Config
from muscope.envs.base import Environment, State
from muscope.evaluation.planners import Planner, plan, plan_in_pairs
from muscope.evaluation.play import prior_logits, prior_policy
from muscope.experiments import figure7, style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Lab, interleave

PLANNERS = tuple((model, prior) for model in figure7.MODELS for prior in figure7.PRIORS)
BINS = 5
SCHEMA = {
    "agent": pa.int64(),
    "step": pa.int64(),
    "state": pa.int64(),
    "model": pa.string(),
    "prior": pa.string(),
    "improvement": pa.float64(),
    "best": pa.float64(),
    "model_error": pa.float64(),
    "simulations": pa.int64(),
    "horizon": pa.int64(),
    "q_horizon": pa.int64(),
    "n_sequences": pa.int64(),
}


class Decisions(NamedTuple):
    """One agent's decisions at M states, by planner in the order of :data:`PLANNERS`."""

    improvement: Float[Array, "4 M"]
    best: Float[Array, "M"]
    model_error: Float[Array, "2 M"]
    """By prior."""


def action_values(
    environment: Environment,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    count: int,
    horizon: int,
    discount: float,
) -> Float[Array, "R M A"]:
    """Q(s, a) of following the policy prior for ``horizon`` steps after a, per episode.

    Args:
        environment: the true environment.
        agent: whose prior is followed.
        states: pytree of [M, ...].
        key: consumed.
        count: R, episodes per action; the actions of a state share their random numbers.
        horizon: steps after the action.
        discount: gamma.

    """
    actions = environment.spec.num_actions
    policy = prior_policy(environment, agent)

    def moved(action):
        return jax.vmap(lambda s: environment.step(s, action))(states)

    first = jax.vmap(moved)(jnp.arange(actions))  # [A, M]

    def one_episode(key):
        def step(carry, inputs):
            places, total = carry
            key, power = inputs
            # One key for all actions: common random numbers.
            chosen = jax.vmap(lambda s: policy(s, key))(places)
            following = jax.vmap(jax.vmap(environment.step))(places, chosen)
            return (following.state, total + power * following.reward), None

        powers = discount ** jnp.arange(1, horizon + 1)
        inputs = (jax.random.split(key, horizon), powers)
        return jax.lax.scan(step, (first.state, first.reward), inputs)[0][1]

    totals = jax.lax.map(one_episode, jax.random.split(key, count), batch_size=min(count, 8))
    return jnp.swapaxes(totals, 1, 2)


def best_value(returns: Float[Array, "R M A"]) -> Float[Array, "M"]:
    """max_a Q(s, a), chosen on one half of the episodes and valued on the other, both ways.

    Chosen and valued on the same episodes it would be too high wherever actions are alike.
    """
    half = returns.shape[0] // 2
    if half == 0:
        return jnp.max(returns[0], axis=-1)
    first, second = jnp.mean(returns[:half], axis=0), jnp.mean(returns[half:], axis=0)

    def of(chooser: Float[Array, "M A"], judge: Float[Array, "M A"]) -> Float[Array, "M"]:
        return jnp.take_along_axis(judge, jnp.argmax(chooser, axis=-1)[:, None], axis=-1)[:, 0]

    return 0.5 * (of(first, second) + of(second, first))


def value_of(q: Float[Array, "M A"], visits: Float[Array, "M A"]) -> Float[Array, "M"]:
    """Q of the most visited action, mean over equally visited ones."""
    best = visits == jnp.max(visits, axis=-1, keepdims=True)
    return jnp.sum(jnp.where(best, q, 0.0), axis=-1) / jnp.sum(best, axis=-1)


def decide(lab: Lab, agent: Agent, states: State, key: Key[Array, ""]) -> Decisions:
    """All planners at states [M, ...]."""
    evaluate, environment = lab.config.evaluate, lab.truth
    q_key, learned_key, true_key = jax.random.split(key, 3)
    returns = action_values(
        lab.environment,
        agent,
        states,
        q_key,
        evaluate.sequences,
        evaluate.decision_horizon,
        lab.discount,
    )

    q = jnp.mean(returns, axis=0)

    prior = jax.nn.softmax(prior_logits(environment, agent, states))
    usual = jnp.sum(prior * q, axis=-1)
    count, horizon = q.shape[0], evaluate.planning_horizon
    both = jax.tree.map(lambda x: jnp.concatenate([x, x]), states)
    guided = jnp.arange(2 * count) < count
    config = replace(lab.config.search, simulations=evaluate.planning_simulations[-1])
    learned = plan_in_pairs(
        environment, agent, both, guided, horizon, learned_key, config, lab.discount
    )
    true = plan(
        Planner("true", "rollout", horizon),
        environment,
        agent,
        both,
        guided,
        true_key,
        config,
        lab.discount,
    )
    chosen = [
        value_of(q, visits) for found in (learned, true) for visits in jnp.split(found.visits, 2)
    ]
    return Decisions(
        jnp.stack(chosen) - usual,
        best_value(returns) - usual,
        jnp.mean(learned.trace[0].whole, axis=0).reshape(2, count),
    )


def run(lab: Lab, step: int) -> Tables:
    """The decisions of all planners at one checkpoint."""
    found = lab.call(decide, lab.agents(step), lab.on_policy(step).states, lab.keys(step, 7))
    evaluate = lab.config.evaluate
    parts = [
        lab.table(
            SCHEMA,
            step,
            state=np.arange(evaluate.states),
            model=np.array(model),
            prior=np.array(prior),
            improvement=np.asarray(found.improvement)[:, i],
            best=np.asarray(found.best),
            model_error=np.asarray(found.model_error)[:, figure7.PRIORS.index(prior)],
            simulations=evaluate.planning_simulations[-1],
            horizon=evaluate.planning_horizon,
            q_horizon=evaluate.decision_horizon,
            n_sequences=evaluate.sequences,
        )
        for i, (model, prior) in enumerate(PLANNERS)
    ]
    return {"decisions": interleave(parts, len(lab.block))}


def by_error(
    table: pa.Table, step: int, model: str, prior: str
) -> tuple[np.ndarray, list[statistics.Summary]]:
    """Improvement by fifths of the states, from the least to the greatest model error.

    The fifths are made within each agent.

    Returns:
        The mean model error of each fifth, and the improvement, mean ± standard error over
        agents.

    """
    table = statistics.rows(table, step=step, model=model, prior=prior)
    agent = table["agent"].to_numpy()
    error, gain = table["model_error"].to_numpy(), table["improvement"].to_numpy()
    fifth = np.empty(len(agent), int)
    for name in np.unique(agent):
        own = np.flatnonzero(agent == name)
        fifth[own[np.argsort(error[own], kind="stable")]] = np.arange(len(own)) * BINS // len(own)
    bins = [fifth == i for i in np.unique(fifth)]
    return (
        np.array([statistics.over_agents(agent[b], error[b]).mean for b in bins]),
        [statistics.over_agents(agent[b], gain[b]) for b in bins],
    )


def plot(given: Tables) -> Figure:
    """Improvement per decision through training, and at the last step by model error."""
    table = given["decisions"]
    steps = sorted(set(table["step"].to_pylist()))
    with style.context():
        figure, panels = style.grid(1 + min(len(steps), 2))
        axes = panels[0]
        for model, prior in PLANNERS:
            points = statistics.by_step(table, "improvement", model=model, prior=prior)
            style.band(
                axes,
                range(len(steps)),
                [s.mean for s in points],
                [s.standard_error for s in points],
                style.MODEL_COLOURS[model],
                f"{model} model, {prior} prior",
                linestyle="-" if prior == "policy" else ":",
            )
        best = [s.mean for s in statistics.by_step(table, "best")]
        style.thin(axes, range(len(steps)), best, (4.0, 2.0), "best action")
        axes.set_xticks(range(len(steps)), [style.thousands(s) for s in steps])
        axes.set_xlabel("training steps")
        axes.set_ylabel("improvement per decision")
        for axes, step in zip(panels[1:], (steps[0], steps[-1]), strict=False):
            for model, prior in PLANNERS:
                errors, points = by_error(table, step, model, prior)
                style.band(
                    axes,
                    errors,
                    [s.mean for s in points],
                    [s.standard_error for s in points],
                    style.MODEL_COLOURS[model],
                    "",
                    linestyle="-" if prior == "policy" else ":",
                )
            axes.set_title(f"{style.thousands(step)} steps", fontsize=9)
            axes.set_xlabel("learned model's error there")
        for axes in panels:
            axes.axhline(0.0, color="grey", linewidth=0.8)
        style.legend_below(figure, panels[0], columns=3)
        return figure


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["decisions"]
    agents = len(set(table["agent"].to_pylist()))
    states = len(set(table["state"].to_pylist()))
    last = max(table["step"].to_pylist())
    parts = []
    for prior in figure7.PRIORS:
        found = statistics.over_agents(*explained(table, last, prior))
        number = f"{found.mean:+.2f}" if found.n else "undefined"
        parts.append(f"{number} with the {prior} prior ({found.n} agents)")
    return (
        "Left: how much better the planner's action is than the policy prior's in the true "
        f"environment, when the prior acts for the following {table['q_horizon'][0]} steps; mean "
        f"over {states} on-policy states and {agents} agents, bands one standard error; "
        f"{table['simulations'][0]} simulations, rollout leaves. Right: the same by fifths of the "
        "states, from the smallest to the largest error of the learned model along its own "
        "search. Spearman's rank correlation of that error with what the true model's decision "
        f"gains over the learned model's at step {style.thousands(last)}: {', '.join(parts)} "
        "(positive: errors explain lost improvement; agents that lose nothing have none)."
    )


def explained(table: pa.Table, step: int, prior: str) -> tuple[np.ndarray, np.ndarray]:
    """Per agent, rank correlation over states of model error and improvement lost to it.

    Lost is the true model's improvement less the learned model's, under the same prior.  NaN
    where one of them is constant is left out.
    """
    agents, found = [], []
    for agent in np.unique(table["agent"].to_numpy()):
        rows = {}
        for model in figure7.MODELS:
            own = statistics.rows(table, agent=int(agent), step=step, model=model, prior=prior)
            order = np.argsort(own["state"].to_numpy())
            rows[model] = own["improvement"].to_numpy()[order]
            error = own["model_error"].to_numpy()[order]
        agents.append(agent)
        found.append(float(statistics.spearman(error, rows["true"] - rows["learned"])))
    known = ~np.isnan(found)
    return np.array(agents)[known], np.array(found)[known]


def settings(config: Config) -> dict[str, object]:
    """What the decisions' rows depend on."""
    evaluate = config.evaluate
    return {
        name: getattr(evaluate, name)
        for name in (
            "episodes",
            "states",
            "sequences",
            "planning_horizon",
            "planning_simulations",
            "decision_horizon",
        )
    }


EXPERIMENT: Experiment = Experiment(
    name="decisions",
    title="Where planning helps: decisions and model error",
    settings=settings,
    run=run,
    plot=plot,
    caption=caption,
    steps=figure7.checkpoints,
)
