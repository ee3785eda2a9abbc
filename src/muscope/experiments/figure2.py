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

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from muscope import envs, statistics
from muscope.agent.networks import MuZero
from muscope.config import Config
from muscope.experiments import style
from muscope.experiments.base import Cell, Experiment
from muscope.experiments.play import muzero_policy, play, prior_policy
from muscope.runtime import agents_mesh, over_agents
from muscope.search import temperature_at
from muscope.storage import tables

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


def make_runner(config: Config) -> Callable[[MuZero, Cell], pa.Table]:
    """A function from a checkpoint's agents [P] to the rows of one cell."""
    environment = envs.make(config.environment.name)
    episodes = config.evaluate.episodes
    population = config.train.agents

    def both(agent, key, temperature):
        mcts = muzero_policy(
            environment, agent, config.search, config.environment.discount, temperature
        )
        mcts_key, prior_key = jax.random.split(key)
        return (
            play(environment, mcts, episodes, mcts_key),
            play(environment, prior_policy(environment, agent), episodes, prior_key),
        )

    program = over_agents(both, agents_mesh(population), per_agent=2)

    def run(agents: MuZero, cell: Cell) -> pa.Table:
        root = jax.random.fold_in(jax.random.key(config.evaluate.seed), cell.step)
        keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(population))
        temperature = temperature_at(cell.step, config.train.steps, config.train.temperatures)
        scores = jax.device_get(program(agents, keys, temperature))
        agent, episode = np.divmod(np.arange(population * episodes), episodes)
        parts = [
            tables.make(
                SCHEMA,
                {
                    "agent": agent,
                    "step": np.full_like(agent, cell.step),
                    "policy": [policy] * len(agent),
                    "episode": episode,
                    "return": np.asarray(score.score, np.float64).ravel(),
                    "length": np.asarray(score.length, np.int64).ravel(),
                    "temperature": np.full(
                        len(agent), float(temperature) if policy == "mcts" else 1.0
                    ),
                },
                config,
            )
            for policy, score in zip(POLICIES, scores, strict=True)
        ]
        return pa.concat_tables(parts)

    return run


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


def plot(table: pa.Table) -> Figure:
    """Mean return ± standard error over agents, MCTS against the policy prior."""
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


def caption(table: pa.Table) -> str:
    """What the picture shows, with the numbers it was made with."""
    agents = len(set(table["agent"].to_pylist()))
    episodes = len(set(table["episode"].to_pylist()))
    simulations = table["simulations"][0].as_py()
    return (
        f"Undiscounted return of MCTS ({simulations} simulations, actions sampled from "
        f"Equation 1, no exploration noise) and of the policy prior at checkpoints through "
        f"training. Lines are means over {agents} agents, {episodes} episodes each; bands are "
        "one standard error over agents."
    )


EXPERIMENT = Experiment(
    name="figure2",
    title="Figure 2: online return",
    settings=lambda config: {"episodes": config.evaluate.episodes},
    make_runner=make_runner,
    plot=plot,
    caption=caption,
)
