"""Beyond the paper: does the learned model know where an episode ends?

In an environment that pays the same at every step (Cart Pole), all value error is about
termination.  From the states of Figure 3, sequences of uniformly random actions are scored
in both models and lined up at their true end.

Table ``endings``, one row per (agent, checkpoint, offset):

    agent    int    the agent, 0..P-1
    step     int    training step of the checkpoint
    offset   int    steps since the true end: -1 is the transition that ends the episode, 0 the
                    first step that no longer exists in the true environment
    true_reward       float  mean r there (0 from offset 0 on)
    predicted_reward  float  mean u there; NaN if no sequence has a step at this offset
    sequences    int  sequences with a step at this offset, of those that end
    ended        float  share of all M x R sequences that end within the horizon
    alive_error  float  mean |part of v_hat - v predicted before the true end|, all sequences
    ended_error  float  mean |part of v_hat predicted after the true end|, all sequences

and the settings every table has (:data:`muscope.storage.tables.SETTINGS`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Bool, Float, Int, Key
from matplotlib import colormaps
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.envs.base import State
from muscope.evaluation.value_error import Rewards, score, split_at_the_end
from muscope.experiments import figure3, style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Lab

SCHEMA = {
    "agent": pa.int64(),
    "step": pa.int64(),
    "offset": pa.int64(),
    "true_reward": pa.float64(),
    "predicted_reward": pa.float64(),
    "sequences": pa.int64(),
    "ended": pa.float64(),
    "alive_error": pa.float64(),
    "ended_error": pa.float64(),
}


class Profile(NamedTuple):
    """Mean rewards by steps since the true end; h sequences' steps give offsets -h..h-1."""

    true_reward: Float[Array, "offsets"]
    predicted_reward: Float[Array, "offsets"]
    sequences: Int[Array, "offsets"]
    ended: Float[Array, "1"]
    alive_error: Float[Array, "1"]
    ended_error: Float[Array, "1"]


def profile(rewards: Rewards, ends: Bool[Array, "L"], discount: float) -> Profile:
    """Line rewards [L, h] up at their true ends.

    Args:
        rewards: of L sequences.
        ends: whether the episode is over after the sequence's last step.
        discount: gamma.

    """
    horizon = rewards.true.shape[-1]
    # The first step after the end; equal to h if the very last transition ended the episode.
    end = horizon - jnp.sum(rewards.ended, axis=-1)
    offset = jnp.arange(horizon) - end[:, None] + horizon
    index = jnp.where(ends[:, None], offset, 2 * horizon)  # those that do not end go nowhere

    def total(x: Float[Array, "L h"]) -> Float[Array, "offsets"]:
        return jnp.zeros(2 * horizon).at[index].add(x, mode="drop")

    count = total(jnp.ones_like(rewards.true))
    alive, over = split_at_the_end(rewards, discount)
    return Profile(
        total(rewards.true) / count,
        total(rewards.predicted) / count,
        count.astype(jnp.int32),
        jnp.mean(ends.astype(jnp.float32))[None],
        jnp.mean(jnp.abs(alive[:, -1]))[None],
        jnp.mean(jnp.abs(over[:, -1]))[None],
    )


def random_profile(lab: Lab, agent: Agent, states: State, key: Key[Array, ""]) -> Profile:
    """The profile of uniformly random sequences from states [M, ...]."""
    count, actions = lab.config.evaluate.sequences, lab.environment.spec.num_actions
    starts = jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), states)
    lanes = jax.tree.leaves(starts)[0].shape[0]
    sequences = jax.random.randint(key, (lanes, lab.horizon + 1), 0, actions)
    # One step more than is scored tells whether the last scored one ended the episode.
    scored = jax.vmap(lambda s, a: score(lab.truth, agent, s, a))(starts, sequences)
    rewards = Rewards(*(x[:, :-1] for x in scored))
    return profile(rewards, scored.ended[:, -1], lab.discount)


def run(lab: Lab, step: int) -> Tables:
    """One checkpoint's model around the true ends of random action sequences."""
    found = lab.call(
        random_profile, lab.agents(step), lab.on_policy(step).states, lab.keys(step, 3)
    )
    offsets = np.arange(-lab.horizon, lab.horizon)
    return {"endings": lab.table(SCHEMA, step, offset=offsets, **found._asdict())}


def plot(given: Tables) -> Figure:
    """Predicted reward around the true end, a line per checkpoint, and the true reward."""
    table = given["endings"]
    steps = sorted(set(table["step"].to_pylist()))
    offsets = [o for o in sorted(set(table["offset"].to_pylist())) if -5 <= o <= 5]
    with style.context():
        figure, axes = style.single(height=3.0)
        truth = _curve(table, "true_reward", offsets, steps)
        axes.plot(offsets, truth, color="black", drawstyle="steps-mid", label="true")
        for i, step in enumerate(steps):
            colour = colormaps["viridis_r"](0.1 + 0.9 * i / max(len(steps) - 1, 1))
            mean = _curve(table, "predicted_reward", offsets, [step])
            axes.plot(offsets, mean, color=colour, marker="o", label=style.thousands(step))
        axes.axvline(-0.5, color="grey", linewidth=0.8)
        axes.set_xlabel("steps since the true end")
        axes.set_ylabel("reward")
        style.legend_below(figure, axes, columns=4)
        return figure


def _curve(table: pa.Table, column: str, offsets: list[int], steps: list[int]) -> list[float]:
    chosen = [statistics.select(table, column, offset=offset, step=steps) for offset in offsets]
    return [statistics.over_agents(agent, value).mean for agent, value in chosen]


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["endings"]
    last = max(table["step"].to_pylist())
    share, alive, over = (
        statistics.over_agents(*statistics.select(table, column, step=[last])).mean
        for column in ("ended", "alive_error", "ended_error")
    )
    after = over / share if share else 0.0
    return (
        "The reward that the learned model predicts around the true end of an episode (the grey "
        "line; black: the true reward), along uniformly random action sequences from on-policy "
        f"states, by training step. At step {style.thousands(last)}, {share:.0%} of the sequences "
        f"end; per sequence that ends, the model predicts {after:.2g} in all after the end. "
        f"Over all sequences its error before any end is {alive:.2g}. Means over agents that have "
        "sequences with such a step; missing points: none has."
    )


EXPERIMENT: Experiment = Experiment(
    name="endings",
    title="Why the model is wrong: rewards around the end of an episode",
    settings=figure3.settings,
    run=run,
    plot=plot,
    caption=caption,
)
