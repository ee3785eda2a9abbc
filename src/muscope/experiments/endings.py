"""Beyond the paper: does the learned model know where an episode ends?

In an environment that pays the same at every step (Cart Pole), all value error is about
termination.  From on-policy states, sequences of uniformly random actions are scored in both
models and lined up at their true end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Array, Key
from matplotlib import colormaps
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.config import EvaluateConfig, Settings
from muscope.config.base import Count, HorizonOrNone
from muscope.envs import State
from muscope.evaluation.endings import Profile, random_profile
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Bench, Scope
from muscope.experiments.measure import Measure
from muscope.experiments.memory import Sizes, of_sequences
from muscope.experiments.view import Beside, Choice, Lines, View
from muscope.room import Part
from muscope.storage.schema import AGENT, STEP, Schema, integer, number
from muscope.subjects import Subject
from muscope.work import Work

STREAM = 3
SHOWN = range(-5, 6)
"""Offsets in the picture."""
SCHEMA = Schema(
    "endings",
    "one row per (agent, checkpoint, offset)",
    (
        AGENT,
        STEP,
        integer(
            "offset",
            "since the true end: -1 is the transition that ends the episode, 0 the first step "
            "that no longer exists in the true environment",
            "steps",
        ),
        number(
            "true_reward",
            "mean r there (0 from offset 0 on); NaN if no sequence has a step at this offset",
            "reward",
            undefined=True,
        ),
        number(
            "predicted_reward",
            "mean u there; NaN if no sequence has a step at this offset",
            "reward",
            undefined=True,
        ),
        integer(
            "sequences", "sequences with a step at this offset, of those that end", measured=True
        ),
        number("ended", "share of all M x R sequences that end within the horizon"),
        number(
            "alive_error",
            "mean |part of v_hat - v predicted before the true end|, all sequences",
            "return",
        ),
        number(
            "ended_error",
            "mean |part of v_hat predicted after the true end|, all sequences",
            "return",
        ),
    ),
)


@dataclass(frozen=True)
class Endings(Settings):
    """Beyond the paper: does the model know where an episode ends?"""

    section = "endings"

    sequences: Count = 32
    """R, random action sequences per state."""
    horizon: HorizonOrNone = 0
    """h, steps of a sequence; 0 for K, the steps that the model was trained to look ahead."""


def profile_agent(
    scope: Scope,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    *,
    sequences: int,
    horizon: int,
) -> Profile:
    """One agent's profile, from states [M, ...]; see :func:`random_profile`."""
    return random_profile(scope.truth, agent, states, key, scope.discount, sequences, horizon)


def run(bench: Bench, settings: Endings, step: int) -> Tables:
    """One checkpoint's model around the true ends of random action sequences."""
    horizon = settings.horizon or bench.subject.unroll
    profile = bench.call(
        profile_agent,
        bench.at(step),
        bench.on_policy(step).states,
        bench.keys(step, STREAM),
        sequences=settings.sequences,
        horizon=horizon,
    )
    offsets = np.arange(-horizon, horizon)
    return {"endings": bench.table(SCHEMA, step, settings, offset=offsets, **profile._asdict())}


def work(subject: Subject, evaluate: EvaluateConfig, settings: Endings) -> list[Work]:
    """Every sequence is followed for one step more than is scored."""
    starts, steps = evaluate.states * settings.sequences, (settings.horizon or subject.unroll) + 1
    return [
        Work("environment", steps, starts),
        Work("encoding", 1, starts),
        Work("model", steps, starts),
    ]


def memory(sizes: Sizes, evaluate: EvaluateConfig, settings: Endings) -> list[Part]:
    """All sequences at once."""
    starts = evaluate.states * settings.sequences
    horizon = settings.horizon or sizes.unroll
    return of_sequences("endings", starts, horizon, sizes.forward + sizes.place)


def plot(given: Tables) -> Figure:
    """Predicted reward around the true end, a line per checkpoint, and the true reward."""
    table = given["endings"]
    steps = statistics.values(table, "step")
    with style.context():
        figure, axes = style.single(height=3.0)
        offsets, points = statistics.curve(table, "true_reward", "offset", offset=SHOWN)
        truth = [s.mean for s in points]
        axes.plot(offsets, truth, color="black", drawstyle="steps-mid", label="true")
        for i, step in enumerate(steps):
            colour = colormaps["viridis_r"](0.1 + 0.9 * i / max(len(steps) - 1, 1))
            offsets, points = statistics.curve(
                table, "predicted_reward", "offset", offset=SHOWN, step=step
            )
            mean = [s.mean for s in points]
            axes.plot(offsets, mean, color=colour, marker="o", label=style.thousands(step))
        axes.axvline(-0.5, color="grey", linewidth=0.8)
        axes.set_xlabel("steps since the true end")
        axes.set_ylabel("reward")
        style.legend_below(figure, axes, columns=4)
        return figure


def after_the_end(table: pa.Table, step: int) -> statistics.Summary:
    """The rewards that the model predicts after the end, summed, per sequence that ends.

    Agents of which no sequence ends have none.
    """
    rows = statistics.rows(table, step=step)
    offsets = [-1, *(offset for offset in statistics.values(rows, "offset") if offset >= 0)]
    reward, count = (
        statistics.means(rows, column, offset=offsets)
        for column in ("predicted_reward", "sequences")
    )
    with np.errstate(invalid="ignore"):  # 0 / 0 where none ends.
        total = np.nansum((reward * count)[:, 1:], axis=1) / count[:, 0]
    return statistics.over_agents(total)


def view(given: Tables) -> View:
    """By steps since the end, checkpoints beside each other."""
    steps = statistics.values(given["endings"], "step")
    lines = Lines(
        "offset",
        "steps since the true end",
        {"predicted_reward": "predicted reward"},
        colour="step",
        where={"offset": SHOWN},
        upright=-0.5,
        beside=(Beside("true_reward", "true reward", {"offset": SHOWN}),),
    )
    return View((lines,), (Choice("step", "training steps", first=style.few(steps, 4)),))


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["endings"]
    last = statistics.values(table, "step")[-1]
    share, alive = (
        statistics.summary(table, column, step=last).mean for column in ("ended", "alive_error")
    )
    after = after_the_end(table, last)
    predicted = (
        f"; per sequence that ends, the model predicts rewards of {after.mean:.2g} in all after it"
        if after.n
        else ""
    )
    return (
        "The reward that the learned model predicts around the true end of an episode (the grey "
        "line; black: the true reward), along uniformly random action sequences from on-policy "
        f"states, by training step. At step {style.thousands(last)}, {share:.0%} of the sequences "
        f"end{predicted}. Over all sequences its error before any end is {alive:.2g}. "
        "Means over agents that have sequences with such a step; missing points: none has."
    )


COMPARED_BY = (
    Measure("error before the true end", "alive_error", ratio=True),
    Measure("error after the true end", "ended_error", ratio=True),
)

EXPERIMENT = Experiment(
    name="endings",
    title="Why the model is wrong: rewards around the end of an episode",
    tables=(SCHEMA,),
    run=run,
    plot=plot,
    caption=caption,
    view=view,
    settings=Endings,
    measures=COMPARED_BY,
    work=work,
    memory=memory,
    number=STREAM,
)
