"""Figure 3: the learned model's value error on its own behaviour policy, by horizon.

Table ``figure3``, one row per (agent, checkpoint, horizon); errors are means over states:

    agent    int    the agent, 0..P-1
    step     int    training step of the checkpoint, of both model and policy
    horizon  int    h, 1..h_max
    error    float  Definition 2, |mean over R of (v - v_hat)|
    standard_error   float  Monte Carlo standard error of that mean at one state (from R)
    states_error     float  standard error of ``error`` as a mean over the M states
    absolute_error   float  mean over R of |v - v_hat| (Definition 1)
    alive_error      float  |part of v_hat - v predicted before the true end|, mean over R
    ended_error      float  |part of v_hat predicted after the true end|, mean over R
    reward_error     float  |r_{t+k} - u_t^k| at step k = horizon - 1, mean over R
    reward_size      float  mean |r_{t+k}| at that step
    ended            float  share of sequences whose episode was over before the h-th action
    average_reward_error  float  Definition 2 for a model that always predicts the mean
                          reward of these very sequences
    spread           float  standard deviation of the true values over R
    n_states     int  M
    n_sequences  int  R
    temperature  float  T of Equation 1 at that step

and the settings every table has (:data:`muscope.storage.tables.SETTINGS`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Key
from matplotlib import colormaps
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.config import Config
from muscope.envs.base import State
from muscope.evaluation.play import muzero_policy
from muscope.evaluation.value_error import (
    Rewards,
    follow,
    policy_error,
    predicted_rewards,
    split_at_the_end,
    values,
)
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Lab

_FLOAT = (
    "error",
    "standard_error",
    "states_error",
    "absolute_error",
    "alive_error",
    "ended_error",
    "reward_error",
    "reward_size",
    "ended",
    "average_reward_error",
    "spread",
)
SCHEMA = {
    "agent": pa.int64(),
    "step": pa.int64(),
    "horizon": pa.int64(),
    **dict.fromkeys(_FLOAT, pa.float64()),
    "n_states": pa.int64(),
    "n_sequences": pa.int64(),
    "temperature": pa.float64(),
}


class Evaluation(NamedTuple):
    """One agent's row of numbers per horizon; see the table's columns."""

    error: Float[Array, "h"]
    standard_error: Float[Array, "h"]
    states_error: Float[Array, "h"]
    absolute_error: Float[Array, "h"]
    alive_error: Float[Array, "h"]
    ended_error: Float[Array, "h"]
    reward_error: Float[Array, "h"]
    reward_size: Float[Array, "h"]
    ended: Float[Array, "h"]
    average_reward_error: Float[Array, "h"]
    spread: Float[Array, "h"]


def behaviour_rewards(
    lab: Lab,
    model: Agent,
    actor: Agent,
    states: State,
    key: Key[Array, ""],
    temperature: Float[Array, ""] | float,
) -> Rewards:
    """Follow one checkpoint's pi_MuZero in the true environment, score it in another's model.

    Args:
        lab: for its config.
        model: whose model predicts.
        actor: whose search acts (Figure 3: the same).
        states: [M, ...] to start from.
        key: consumed.
        temperature: the actor's T.

    Returns:
        True and predicted rewards [M, R, h].

    """
    count = lab.config.evaluate.sequences
    policy = muzero_policy(lab.truth, actor, lab.config.search, lab.discount, temperature)
    starts = jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), states)
    actions, path = follow(lab.truth, policy, starts, lab.horizon, key)
    observations = jax.vmap(lab.truth.observe)(starts)
    predicted = jax.vmap(lambda o, a: predicted_rewards(model, o, a))(observations, actions)
    flat = Rewards(path.reward, predicted, path.ended)
    return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]), flat)


def summarise(rewards: Rewards, discount: float) -> Evaluation:
    """Means over states of everything Figure 3 tells, from rewards [M, R, h]."""
    states = rewards.true.shape[0]
    per_state = jax.vmap(lambda r: policy_error(r, discount))(rewards)
    alive, over = split_at_the_end(rewards, discount)
    mean_reward = jnp.mean(rewards.true)
    constant = rewards._replace(predicted=jnp.full_like(rewards.true, mean_reward))
    baseline = jax.vmap(lambda r: policy_error(r, discount).error)(constant)
    spread = jnp.std(values(rewards.true, discount), axis=1)
    state_spread = jnp.std(per_state.error, axis=0, ddof=1) if states > 1 else jnp.nan
    return Evaluation(
        error=jnp.mean(per_state.error, axis=0),
        standard_error=jnp.mean(per_state.standard_error, axis=0),
        states_error=state_spread / jnp.sqrt(states) + jnp.zeros(rewards.true.shape[-1]),
        absolute_error=jnp.mean(per_state.absolute_error, axis=0),
        alive_error=jnp.mean(jnp.abs(alive), axis=(0, 1)),
        ended_error=jnp.mean(jnp.abs(over), axis=(0, 1)),
        reward_error=jnp.mean(jnp.abs(rewards.true - rewards.predicted), axis=(0, 1)),
        reward_size=jnp.mean(jnp.abs(rewards.true), axis=(0, 1)),
        ended=jnp.mean(rewards.ended.astype(jnp.float32), axis=(0, 1)),
        average_reward_error=jnp.mean(baseline, axis=0),
        spread=jnp.mean(spread, axis=0),
    )


def evaluate_policy(
    lab: Lab,
    model: Agent,
    actor: Agent,
    states: State,
    key: Key[Array, ""],
    temperature: Float[Array, ""] | float,
) -> Evaluation:
    """:func:`behaviour_rewards`, summarised."""
    rewards = behaviour_rewards(lab, model, actor, states, key, temperature)
    return summarise(rewards, lab.discount)


def run(lab: Lab, step: int) -> Tables:
    """One checkpoint's model on its own behaviour policy."""
    agents = lab.agents(step)
    found = lab.call(
        evaluate_policy,
        agents,
        agents,
        lab.on_policy(step).states,
        lab.keys(step, 2),
        shared=(lab.temperature(step),),
    )
    evaluate = lab.config.evaluate
    table = lab.table(
        SCHEMA,
        step,
        horizon=np.arange(1, lab.horizon + 1),
        **found._asdict(),
        n_states=evaluate.states,
        n_sequences=evaluate.sequences,
        temperature=lab.temperature(step),
    )
    return {"figure3": table}


def plot(given: Tables) -> Figure:
    """Error by training step, one line per horizon, with what a know-nothing model would get."""
    table = given["figure3"]
    steps = sorted(set(table["step"].to_pylist()))
    horizons = sorted(set(table["horizon"].to_pylist()))
    with style.context():
        figure, axes = style.single(height=3.0)
        for horizon in horizons:
            place = (horizon - 1) / max(len(horizons) - 1, 1)
            colour = colormaps["viridis_r"](0.1 + 0.9 * place)
            points = statistics.by_step(table, "error", horizon=horizon)
            style.band(
                axes,
                steps,
                [s.mean for s in points],
                [s.standard_error for s in points],
                colour,
                f"h = {horizon}" if horizon in (1, horizons[-1] // 2, horizons[-1]) else "",
            )
        for column, dashes, name in (
            ("average_reward_error", (4.0, 2.0), "mean reward predicted"),
            ("spread", (1.0, 1.5), "spread of true values"),
        ):
            points = statistics.by_step(table, column, horizon=horizons[-1])
            style.thin(axes, steps, [s.mean for s in points], dashes, f"{name}, h = {horizons[-1]}")
        style.training_axis(axes, steps)
        axes.set_ylabel("value error")
        style.scale_to_trained(axes, steps)
        style.legend_below(figure, axes, columns=2)
        return figure


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["figure3"]
    agents = len(set(table["agent"].to_pylist()))
    last = max(table["horizon"].to_pylist())
    longest = [
        row["standard_error"]
        for row in table.select(["horizon", "standard_error"]).to_pylist()
        if row["horizon"] == last
    ]
    noise = (
        ""
        if np.isnan(longest).any()
        else (
            f"The Monte Carlo standard error of one state's value at h = {last} is "
            f"{np.mean(longest):.2g} on average; errors well below it are not resolved. "
        )
    )
    untrained = (
        " The scale is that of the trained models." if 0 in table["step"].to_pylist() else ""
    )
    return (
        "Value error (Definition 2) of the learned model on its own behaviour policy, by horizon "
        f"h, at {table['n_states'][0]} on-policy states and {table['n_sequences'][0]} action "
        f"sequences each. Lines are means over {agents} agents, bands one standard error over "
        f"agents. {noise}"
        "Thin lines: the error of a model that always predicts the mean reward, and the "
        f"standard deviation of the true values over sequences, both at h = {last}.{untrained}"
    )


def settings(config: Config) -> dict[str, object]:
    """What Figure 3's rows depend on."""
    evaluate = config.evaluate
    return {
        "episodes": evaluate.episodes,
        "states": evaluate.states,
        "sequences": evaluate.sequences,
        "horizon": evaluate.horizon or config.loss.unroll,
    }


EXPERIMENT: Experiment = Experiment(
    name="figure3",
    title="Figure 3: value error on the own behaviour policy",
    settings=settings,
    run=run,
    plot=plot,
    caption=caption,
)
