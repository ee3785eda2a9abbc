"""Figure 4: the error of every action sequence against its probability.

Table ``figure4``, one row per (agent, checkpoint, rank), means over states at equal rank:

    agent    int    the agent, 0..P-1
    step     int    training step of the checkpoint
    rank     int    0 for the sequence that pi_MuZero is least likely to take, up to A^h - 1;
                    equal probabilities are ranked at random
    probability  float  Equation 6
    error        float  Definition 1 at horizon h
    alive_error  float  |part of v_hat - v predicted before the true end|
    ended_error  float  |part of v_hat predicted after the true end|
    average_reward_error  float  Definition 1 for a model that always predicts the mean reward
                          under pi_MuZero at these states
    horizon      int    h
    n_states     int    M
    temperature  float  T of Equation 1 at that step

Table ``figure4_states``, one row per (agent, checkpoint, state):

    agent, step  int    as above
    state        int    number of the state, 0..M-1
    spearman     float  rank correlation of probability and error over its sequences (ties get
                        mean ranks); NaN where all errors or all probabilities are equal
    spread       float  standard deviation of the true values over its sequences
    likely_error float  mean error weighted by probability: Definition 1 under pi_MuZero
    mean_error   float  mean error, every sequence weighing the same

and the settings every table has (:data:`muscope.storage.tables.SETTINGS`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from muscope import envs, statistics
from muscope.agent import Agent
from muscope.config import Config
from muscope.envs.base import State
from muscope.errors import ConfigError
from muscope.evaluation.sequences import (
    all_sequences,
    behaviour_at,
    sequence_log_probabilities,
    true_tree,
)
from muscope.evaluation.value_error import (
    Rewards,
    predicted_rewards,
    sequence_error,
    split_at_the_end,
    values,
)
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Lab

MOST_SEQUENCES = 65_536
PANELS = 9

SCHEMA = {
    "agent": pa.int64(),
    "step": pa.int64(),
    "rank": pa.int64(),
    "probability": pa.float64(),
    "error": pa.float64(),
    "alive_error": pa.float64(),
    "ended_error": pa.float64(),
    "average_reward_error": pa.float64(),
    "horizon": pa.int64(),
    "n_states": pa.int64(),
    "temperature": pa.float64(),
}
STATES_SCHEMA = {
    "agent": pa.int64(),
    "step": pa.int64(),
    "state": pa.int64(),
    "spearman": pa.float64(),
    "spread": pa.float64(),
    "likely_error": pa.float64(),
    "mean_error": pa.float64(),
}


class EverySequence(NamedTuple):
    """All S = A^h sequences from M states."""

    log_probability: Float[Array, "M S"]
    """Logarithm of Equation 6."""
    error: Float[Array, "M S"]
    alive_error: Float[Array, "M S"]
    ended_error: Float[Array, "M S"]
    average_reward_error: Float[Array, "M S"]
    value: Float[Array, "M S"]
    """The true value v, Equation 3."""


def every_sequence(
    lab: Lab,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    temperature: Float[Array, ""] | float,
) -> EverySequence:
    """Score all sequences from states [M, ...]; one search per inner node of the true tree."""
    horizon, actions = lab.config.evaluate.sequence_horizon, lab.environment.spec.num_actions
    sequences = jnp.asarray(all_sequences(actions, horizon))

    def one_state(state):
        tree = true_tree(lab.truth, state, horizon)
        observation = lab.truth.observe(state)
        predicted = jax.vmap(lambda a: predicted_rewards(agent, observation, a))(sequences)
        return Rewards(tree.reward, predicted, tree.ended), tree.nodes

    rewards, nodes = jax.vmap(one_state)(states)
    count = rewards.true.shape[0]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), nodes)
    config = lab.config.search
    policy = behaviour_at(lab.truth, agent, flat, key, config, lab.discount, temperature).reshape(
        count, -1, actions
    )
    log_probability = jax.vmap(lambda p: sequence_log_probabilities(p, actions, horizon))(policy)
    probability = jnp.exp(log_probability)
    usual = jnp.mean(jnp.sum(probability[..., None] * rewards.true, axis=1))
    constant = jnp.full_like(rewards.true, usual)
    alive, over = split_at_the_end(rewards, lab.discount)
    return EverySequence(
        log_probability,
        sequence_error(rewards.true, rewards.predicted, lab.discount)[..., -1],
        jnp.abs(alive[..., -1]),
        jnp.abs(over[..., -1]),
        sequence_error(rewards.true, constant, lab.discount)[..., -1],
        values(rewards.true, lab.discount)[..., -1],
    )


RANKED = ("error", "alive_error", "ended_error", "average_reward_error")


def ranked(found: EverySequence, seed: list[int]) -> dict[str, np.ndarray]:
    """Means over states at equal rank, least likely sequence first; ties in random order."""
    log_probability = np.asarray(found.log_probability, np.float64)
    tie = np.random.default_rng(seed).random(log_probability.shape)
    order = np.lexsort((tie, log_probability), axis=-1)
    columns = {name: np.asarray(getattr(found, name), np.float64) for name in RANKED}
    columns["probability"] = np.exp(log_probability)
    return {name: np.take_along_axis(x, order, -1).mean(0) for name, x in columns.items()}


def check(config: Config) -> None:
    """Refuse more action sequences than fit.

    Raises:
        ConfigError: A^h is too large.

    """
    horizon = config.evaluate.sequence_horizon
    count = envs.make(config.environment).spec.num_actions ** horizon
    if count > MOST_SEQUENCES:
        raise ConfigError(
            f"evaluate.sequence_horizon = {horizon} makes {count:,} action sequences, more than "
            f"{MOST_SEQUENCES:,}; lower it."
        )


def run(lab: Lab, step: int) -> Tables:
    """One checkpoint's model on all sequences of ``evaluate.sequence_horizon`` actions."""
    evaluate = lab.config.evaluate
    count = lab.environment.spec.num_actions**evaluate.sequence_horizon
    found = jax.device_get(
        lab.call(
            every_sequence,
            lab.agents(step),
            lab.on_policy(step).states,
            lab.keys(step, 4),
            shared=(lab.temperature(step),),
        )
    )
    per_agent = [EverySequence(*(x[i] for x in found)) for i in range(len(lab.block))]
    curves = [
        ranked(one, [evaluate.seed, step, agent])
        for one, agent in zip(per_agent, lab.block, strict=True)
    ]
    ranks = lab.table(
        SCHEMA,
        step,
        rank=np.arange(count),
        **{name: np.stack([curve[name] for curve in curves]) for name in curves[0]},
        horizon=evaluate.sequence_horizon,
        n_states=evaluate.states,
        temperature=lab.temperature(step),
    )
    probability = np.exp(np.asarray(found.log_probability, np.float64))
    likely = np.sum(probability * found.error, axis=-1)
    states = lab.table(
        STATES_SCHEMA,
        step,
        state=np.arange(evaluate.states),
        spearman=statistics.spearman(found.log_probability, found.error),
        spread=np.std(found.value, axis=-1),
        likely_error=likely / np.sum(probability, axis=-1),
        mean_error=np.mean(found.error, axis=-1),
    )
    return {"figure4": ranks, "figure4_states": states}


def plot(given: Tables) -> Figure:
    """Probability and error by rank, a panel per trained checkpoint."""
    table = given["figure4"]
    steps = sorted(set(table["step"].to_pylist()))
    steps = style.few([step for step in steps if step > 0] or steps, PANELS)
    with style.context():
        figure, panels = style.grid(len(steps))
        twins = []
        for axes, step in zip(panels, steps, strict=True):
            right = axes.twinx()
            twins.append(right)
            for on, column, colour, name in (
                (axes, "probability", style.COLOURS["mcts"], "probability"),
                (right, "error", style.COLOURS["prior"], "value error"),
            ):
                ranks, points = statistics.by(table, column, "rank", step=step)
                style.band(
                    on,
                    ranks,
                    [s.mean for s in points],
                    [s.standard_error for s in points],
                    colour,
                    name,
                    marker=None,
                )
            ranks, points = statistics.by(table, "average_reward_error", "rank", step=step)
            style.thin(right, ranks, [s.mean for s in points], (4.0, 2.0), "mean reward predicted")
            spread = statistics.over_agents(
                *statistics.select(given["figure4_states"], "spread", step=[step])
            ).mean
            style.thin(right, ranks[[0, -1]], [spread] * 2, (1.0, 1.5), "spread of true values")
            axes.set_title(f"{style.thousands(step)} steps", fontsize=9)
            axes.set_ylim(bottom=0.0)
            right.grid(False)
            right.spines["right"].set_visible(True)
            axes.set_xlabel("rank, unlikely to likely")
        top = max(right.get_ylim()[1] for right in twins)
        for right in twins:
            right.set_ylim(0.0, top)
        style.twin_labels(panels, twins, "probability", "value error")
        style.legend_below(figure, panels[0], twins[0], columns=2)
        return figure


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table, states = given["figure4"], given["figure4_states"]
    steps = sorted(set(states["step"].to_pylist()))
    agents = len(set(table["agent"].to_pylist()))
    found = []
    for step in steps:
        agent, value = statistics.select(states, "spearman", step=[step])
        mean, _, n = statistics.over_agents(agent, value)
        some = "" if n == agents else f" ({n} agents)"
        number = f"{mean:+.2f}" if n else "undefined"
        found.append(f"{number} at {style.thousands(step)}{some}")
    return (
        f"All {len(set(table['rank'].to_pylist()))} sequences of {table['horizon'][0]} actions "
        f"from {table['n_states'][0]} on-policy states, ranked by their probability under the "
        "behaviour policy (blue, left axis), with the learned model's value error at equal "
        f"rank (orange, right axis). Means over states, then over {agents} agents; bands are one "
        "standard error over agents. Thin lines: the error of a model that always predicts the "
        "mean reward, and the standard deviation of the true values over sequences. Spearman's "
        f"rank correlation of the two, mean over states and agents: {', '.join(found)}."
    )


def settings(config: Config) -> dict[str, object]:
    """What Figure 4's rows depend on."""
    evaluate = config.evaluate
    return {
        "episodes": evaluate.episodes,
        "states": evaluate.states,
        "sequence_horizon": evaluate.sequence_horizon,
    }


EXPERIMENT: Experiment = Experiment(
    name="figure4",
    title="Figure 4: every action sequence",
    settings=settings,
    run=run,
    plot=plot,
    caption=caption,
    tables=("figure4_states",),
    check=check,
)
