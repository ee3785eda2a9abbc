"""Figure 2: online return of MCTS and of the policy prior through training.

Table ``figure2``, one row per episode:

    agent    int    the agent, 0..P-1
    step     int    training step of the checkpoint
    policy   str    'mcts': sampled from Equation 1; 'prior': sampled from the policy head
    episode  int    episode number within (agent, step, policy)
    return   float  undiscounted return
    length   int    steps until termination or the time limit
    temperature  float  T of Equation 1 at that step (the prior has none: 1)

and the settings every table has (:data:`muscope.storage.tables.SETTINGS`).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from jaxtyping import Array, Key
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.evaluation.play import Scores, play, prior_policy
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Lab, interleave

POLICIES = ("mcts", "prior")
SCHEMA = {
    "agent": pa.int64(),
    "step": pa.int64(),
    "policy": pa.string(),
    "episode": pa.int64(),
    "return": pa.float64(),
    "length": pa.int64(),
    "temperature": pa.float64(),
}


def run(lab: Lab, step: int) -> Tables:
    """Episodes of both policies at one checkpoint."""
    prior = lab.call(_prior_scores, lab.agents(step), lab.keys(step, 1))
    parts = [
        lab.table(
            SCHEMA,
            step,
            policy=np.array(policy),
            episode=np.arange(lab.config.evaluate.episodes),
            **{"return": np.asarray(scores.score), "length": np.asarray(scores.length)},
            temperature=np.array(temperature),
        )
        for policy, scores, temperature in (
            ("mcts", lab.on_policy(step).scores, lab.temperature(step)),
            ("prior", prior, 1.0),
        )
    ]
    return {"figure2": interleave(parts, len(lab.block))}


def _prior_scores(lab: Lab, agent: Agent, key: Key[Array, ""]) -> Scores:
    policy = prior_policy(lab.environment, agent)
    return play(lab.environment, policy, lab.config.evaluate.episodes, key)


def curves(table: pa.Table) -> dict[str, list[tuple[int, statistics.Summary]]]:
    """Per policy, (step, mean ± standard error over agents) through training."""
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in SCHEMA}
    found: dict[str, list[tuple[int, statistics.Summary]]] = {}
    for policy in POLICIES:
        found[policy] = []
        for step in np.unique(columns["step"]):
            chosen = (columns["step"] == step) & (columns["policy"] == policy)
            summary = statistics.over_agents(columns["agent"][chosen], columns["return"][chosen])
            found[policy].append((int(step), summary))
    return found


def plot(given: Tables) -> Figure:
    """Mean return ± standard error over agents, MCTS against the policy prior."""
    table = given["figure2"]
    names = {"mcts": "MCTS", "prior": "policy prior"}
    with style.context():
        figure, axes = style.single()
        for policy, points in curves(table).items():
            style.band(
                axes,
                [step for step, _ in points],
                [s.mean for _, s in points],
                [s.standard_error for _, s in points],
                style.COLOURS[policy],
                names[policy],
            )
        style.training_axis(axes, sorted(set(table["step"].to_pylist())))
        axes.set_ylabel("return")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.legend()
        return figure


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["figure2"]
    agents = len(set(table["agent"].to_pylist()))
    episodes = len(set(table["episode"].to_pylist()))
    simulations = table["simulations"][0].as_py()
    return (
        f"Undiscounted return of MCTS ({simulations} simulations, actions sampled from "
        f"Equation 1, no exploration noise) and of the policy prior at checkpoints through "
        f"training. Lines are means over {agents} agents, {episodes} episodes each; bands are "
        "one standard error over agents."
    )


EXPERIMENT: Experiment = Experiment(
    name="figure2",
    title="Figure 2: online return",
    settings=lambda config: {"episodes": config.evaluate.episodes},
    run=run,
    plot=plot,
    caption=caption,
)
