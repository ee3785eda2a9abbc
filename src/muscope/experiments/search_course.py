"""Figure 6: where the learned model's search goes, with and without the policy prior.

Table ``figure6``, one row per (agent, checkpoint, prior, simulations); means over states:

    agent    int    the agent, 0..P-1
    step     int    training step of the checkpoint
    prior    str    'policy' or 'uniform': what guides the search
    simulations  int  n, 1..N
    error    float  Definition 1 of the simulated trajectories (tree path and rollout, H actions),
                    mean over the first n simulations
    error_tree_path  float  the same for the tree paths alone
    tv       float  TV[pi, pi_hat] at the root after n simulations; pi is the policy network's
                    prior, also where a uniform one guides the search
    kl       float  KL[pi, pi_hat]
    horizon  int    H
    n_states int    M

and the settings every table has (:data:`muscope.storage.tables.SETTINGS`).
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
from muscope.envs.base import State
from muscope.evaluation.planners import plan_in_pairs, regularisation
from muscope.evaluation.play import prior_logits
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Lab, chosen, interleave

PRIORS = ("policy", "uniform")
MEASURES = {
    "error": "value error",
    "error_tree_path": "value error, tree path",
    "tv": "total variation",
    "kl": "KL divergence",
}
SCHEMA = {
    "agent": pa.int64(),
    "step": pa.int64(),
    "prior": pa.string(),
    "simulations": pa.int64(),
    **dict.fromkeys(MEASURES, pa.float64()),
    "horizon": pa.int64(),
    "n_states": pa.int64(),
}


class Course(NamedTuple):
    """What one agent's searches did, by prior and number of simulations."""

    error: Float[Array, "2 N"]
    error_tree_path: Float[Array, "2 N"]
    tv: Float[Array, "2 N"]
    kl: Float[Array, "2 N"]


def courses(lab: Lab, agent: Agent, states: State, key: Key[Array, ""]) -> Course:
    """Search from states [M, ...] with both priors at once."""
    evaluate, environment = lab.config.evaluate, lab.truth
    count = jax.tree.leaves(states)[0].shape[0]
    both = jax.tree.map(lambda x: jnp.concatenate([x, x]), states)
    guided = jnp.arange(2 * count) < count
    config = replace(lab.config.search, simulations=evaluate.search_simulations)
    found = plan_in_pairs(
        environment, agent, both, guided, evaluate.planning_horizon, key, config, lab.discount
    )
    errors, visits = found.trace

    prior = jax.nn.softmax(prior_logits(environment, agent, both))
    pi = jnp.broadcast_to(prior, visits.shape)
    tv, kl = regularisation(pi, visits)
    so_far = jnp.arange(1, evaluate.search_simulations + 1)[:, None]

    def by_prior(x: Float[Array, "N L"]) -> Float[Array, "2 N"]:
        return jnp.mean(x.reshape(x.shape[0], 2, count), axis=2).T

    return Course(
        by_prior(jnp.cumsum(errors.whole, axis=0) / so_far),
        by_prior(jnp.cumsum(errors.path, axis=0) / so_far),
        by_prior(tv),
        by_prior(kl),
    )


def run(lab: Lab, step: int) -> Tables:
    """The searches of one checkpoint."""
    found = lab.call(courses, lab.agents(step), lab.on_policy(step).states, lab.keys(step, 5))
    evaluate = lab.config.evaluate
    parts = [
        lab.table(
            SCHEMA,
            step,
            prior=np.array(prior),
            simulations=np.arange(1, evaluate.search_simulations + 1),
            **{name: np.asarray(getattr(found, name))[:, i] for name in MEASURES},
            horizon=evaluate.planning_horizon,
            n_states=evaluate.states,
        )
        for i, prior in enumerate(PRIORS)
    ]
    return {"figure6": interleave(parts, len(lab.block))}


def plot(given: Tables) -> Figure:
    """Error, TV and KL against simulations, policy prior against uniform prior."""
    table = given["figure6"]
    steps = sorted(set(table["step"].to_pylist()))
    shown = ("error", "tv", "kl")
    with style.context():
        figure, panels = style.grid(3 * len(steps))
        for i, step in enumerate(steps):
            for axes, measure in zip(panels[3 * i : 3 * i + 3], shown, strict=True):
                for prior in PRIORS:
                    rows, points = statistics.by(
                        table, measure, "simulations", step=step, prior=prior
                    )
                    style.band(
                        axes,
                        rows,
                        [s.mean for s in points],
                        [s.standard_error for s in points],
                        style.PRIOR_COLOURS[prior],
                        f"{prior} prior",
                        marker=None,
                    )
                    if measure == "error":
                        rows, points = statistics.by(
                            table, "error_tree_path", "simulations", step=step, prior=prior
                        )
                        style.thin(
                            axes,
                            rows,
                            [s.mean for s in points],
                            (3.0, 1.5),
                            f"{prior} prior, tree path alone",
                            style.PRIOR_COLOURS[prior],
                        )
                axes.set_xlabel("simulations")
                axes.set_ylabel(MEASURES[measure])
                axes.set_ylim(bottom=0.0)
                axes.set_title(f"{style.thousands(step)} steps", fontsize=9)
        style.legend_below(figure, panels[0], columns=2)
        return figure


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["figure6"]
    agents = len(set(table["agent"].to_pylist()))
    return (
        "Search in the learned model from on-policy states, guided by the policy prior or by a "
        "uniform one, leaves valued by random rollouts. Left: value error (Definition 1) of the "
        f"simulated trajectories, {table['horizon'][0]} actions of tree path and rollout, mean "
        "over the first n simulations; thin: of the tree paths alone. Middle and right: total "
        "variation and KL divergence between the policy prior and the smoothed visit distribution "
        f"at the root. {table['n_states'][0]} states; means over {agents} agents, bands one "
        "standard error over agents."
    )


def settings(config: Config) -> dict[str, object]:
    """What Figure 6's rows depend on."""
    evaluate = config.evaluate
    return {
        "episodes": evaluate.episodes,
        "states": evaluate.states,
        "search_simulations": evaluate.search_simulations,
        "planning_horizon": evaluate.planning_horizon,
    }


def checkpoints(config: Config) -> tuple[int, ...]:
    """The checkpoints of Figure 6."""
    return chosen(config, config.evaluate.search_checkpoints, "evaluate.search_checkpoints")


EXPERIMENT: Experiment = Experiment(
    name="figure6",
    title="Figure 6: where the search goes",
    settings=settings,
    run=run,
    plot=plot,
    caption=caption,
    steps=checkpoints,
)
