"""Figure 3: the learned model's value error on its own behaviour policy, by horizon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Key
from matplotlib import colormaps
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.claims import Cells, Claim, MissingCell, Noted
from muscope.config import EvaluateConfig, Settings
from muscope.config.base import Count, HorizonOrNone
from muscope.envs import State
from muscope.evaluation.behaviour import PolicyReport, behaviour_rewards, report_on
from muscope.evaluation.distinct import part_size
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Bench, Scope
from muscope.experiments.measure import FIRST, LAST, Measure
from muscope.experiments.memory import Sizes, of_sequences
from muscope.experiments.view import Beside, Choice, Lines, View
from muscope.room import Part
from muscope.storage.schema import AGENT, TEMPERATURE, Schema, integer, number
from muscope.subjects import Subject
from muscope.work import Work, searching, within

STREAM = 2
"""Of its random numbers; Figure 5 has the same, so that its diagonal is Figure 3."""
SQUARED_ERROR = number(
    "squared_error",
    "mean over states of the product of v - v_hat's means over two halves of the R sequences: "
    "unbiased for the squared error, where |mean over R| is biased upward by Monte Carlo error; "
    "may be negative; NaN if R = 1",
    "return^2",
    undefined=True,
)
SQUARED_NOISE = number(
    "squared_noise",
    "Monte Carlo standard error of squared_error at these states; NaN if R = 1",
    "return^2",
    undefined=True,
)
SCHEMA = Schema(
    "figure3",
    "one row per (agent, checkpoint, horizon); errors are means over states",
    (
        AGENT,
        integer("step", "training step of the checkpoint, of both model and policy"),
        integer("horizon", "h, 1..h_max", "steps"),
        number("error", "Definition 2, |mean over R of (v - v_hat)|", "return"),
        number(
            "standard_error",
            "Monte Carlo standard error of that mean at one state (from R)",
            "return",
        ),
        number("states_error", "standard error of error as a mean over the M states", "return"),
        number("absolute_error", "mean over R of |v - v_hat| (Definition 1)", "return"),
        SQUARED_ERROR,
        SQUARED_NOISE,
        number(
            "alive_error",
            "|part of v_hat - v predicted before the true end|, mean over R",
            "return",
        ),
        number(
            "ended_error", "|part of v_hat predicted after the true end|, mean over R", "return"
        ),
        number("reward_error", "|r_{t+k} - u_t^k| at step k = horizon - 1, mean over R", "reward"),
        number("reward_size", "mean |r_{t+k}| at that step", "reward"),
        number("ended", "share of sequences whose episode was over before the h-th action"),
        number(
            "average_reward_error",
            "Definition 2 for a model that always predicts the mean reward of these very sequences",
            "return",
        ),
        number("spread", "standard deviation of the true values over R", "return"),
        integer("n_states", "M"),
        integer("n_sequences", "R"),
        TEMPERATURE,
    ),
)


@dataclass(frozen=True)
class OwnPolicy(Settings):
    """Figure 3: how wrong is the model on its own behaviour policy, by horizon?"""

    section = "figure3"

    sequences: Count = 32
    """R, Monte Carlo action sequences per state."""
    horizon: HorizonOrNone = 0
    """h, the longest horizon; 0 for K, the steps that the model was trained to look ahead."""


def evaluate_policy(
    scope: Scope,
    model: Agent,
    actor: Agent,
    states: State,
    key: Key[Array, ""],
    temperature: Float[Array, ""] | float,
    *,
    sequences: int,
    horizon: int,
) -> PolicyReport:
    """One agent's model on a policy, from states [M, ...]; see :func:`behaviour_rewards`."""
    rewards = behaviour_rewards(
        scope.truth,
        model,
        actor,
        states,
        key,
        scope.search,
        scope.discount,
        temperature,
        sequences,
        horizon,
    )
    return report_on(rewards, scope.discount)


def report_of(
    bench: Bench, model_step: int, policy_step: int, sequences: int, horizon: int
) -> PolicyReport:
    """The models of one checkpoint on the policies of another, [B, h]; made once, as Figure 5's
    diagonal is Figure 3.
    """

    def make() -> PolicyReport:
        return bench.call(
            evaluate_policy,
            bench.at(model_step),
            bench.at(policy_step),
            bench.on_policy(model_step).states,
            bench.keys(model_step, STREAM),
            shared=(bench.temperature(policy_step),),
            sequences=sequences,
            horizon=horizon,
        )

    return bench.once(("report", model_step, policy_step, sequences, horizon), make)


def run(bench: Bench, settings: OwnPolicy, step: int) -> Tables:
    """One checkpoint's model on its own behaviour policy."""
    horizon = settings.horizon or bench.subject.unroll
    report = report_of(bench, step, step, settings.sequences, horizon)
    table = bench.table(
        SCHEMA,
        step,
        settings,
        horizon=np.arange(1, horizon + 1),
        **report._asdict(),
        n_states=bench.evaluate.states,
        n_sequences=settings.sequences,
        temperature=bench.temperature(step),
    )
    return {"figure3": table}


def following(
    subject: Subject, evaluate: EvaluateConfig, sequences: int, horizon: int, policies: int = 1
) -> list[Work]:
    """Work of :func:`evaluate_policy`, for some policies one after the other: every state's
    sequences are followed, with a search wherever two may differ, and scored in the model.
    Sequences that a policy keeps together need fewer searches than are counted.
    """
    starts, horizon = evaluate.states * sequences, horizon or subject.unroll
    actions, size = subject.environment.spec.num_actions, part_size(starts)
    most = [min(evaluate.states * actions**k, starts) for k in range(horizon)]
    searches = sum(-(-classes // size) for classes in most)
    followed = [
        *searching(policies * searches, size, (subject.search.simulations,)),
        Work("environment", policies * horizon, starts),
        Work("encoding", policies, evaluate.states),
        Work("model", policies * horizon, starts),
    ]
    return within(followed, f"policy of {sequences} x {horizon}")


def work(subject: Subject, evaluate: EvaluateConfig, settings: OwnPolicy) -> list[Work]:
    """Its own policy is followed."""
    return following(subject, evaluate, settings.sequences, settings.horizon)


def memory_of_following(
    name: str, sizes: Sizes, evaluate: EvaluateConfig, sequences: int, horizon: int
) -> list[Part]:
    """Memory of :func:`evaluate_policy`: all sequences at once, their searches in parts."""
    starts = evaluate.states * sequences
    searches = Part("its searches", part_size(starts) * sizes.search(), "search.simulations")
    each = sizes.forward + sizes.place
    return [searches, *of_sequences(name, starts, horizon or sizes.unroll, each)]


def memory(sizes: Sizes, evaluate: EvaluateConfig, settings: OwnPolicy) -> list[Part]:
    """Its own policy is followed."""
    return memory_of_following("figure3", sizes, evaluate, settings.sequences, settings.horizon)


def plot(given: Tables) -> Figure:
    """Error by training step, one line per horizon, with what a know-nothing model would get."""
    table = given["figure3"]
    steps, horizons = (statistics.values(table, name) for name in ("step", "horizon"))
    with style.context():
        figure, axes = style.single(height=3.0)
        for horizon in horizons:
            place = (horizon - 1) / max(len(horizons) - 1, 1)
            colour = colormaps["viridis_r"](0.1 + 0.9 * place)
            _, points = statistics.curve(table, "error", "step", horizon=horizon)
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
            _, points = statistics.curve(table, column, "step", horizon=horizons[-1])
            style.thin(axes, steps, [s.mean for s in points], dashes, f"{name}, h = {horizons[-1]}")
        style.training_axis(axes, steps)
        axes.set_ylabel("value error")
        style.scale_to_trained(axes, steps)
        style.legend_below(figure, axes, columns=2)
        return figure


def states_beside_agents(table: pa.Table, **axes: Sequence[int]) -> str:
    """How much of the standard error over agents comes from the choice of states, in words;
    nothing for a single agent.  Agents that lack a number do not count.

    Args:
        table: with columns ``error`` and ``states_error``.
        axes: columns and values of theirs that tell cells apart, over which both are averaged.

    """
    errors, of_states = (
        statistics.means(table, name, **axes).reshape(len(statistics.values(table, "agent")), -1)
        for name in ("error", "states_error")
    )
    known = ~np.isnan(errors + of_states).any(axis=1)
    errors, of_states, count = errors[known], of_states[known], int(known.sum())
    if count < 2:
        return ""
    over_agents = (errors.std(axis=0, ddof=1) / np.sqrt(count)).mean()
    over_states = np.sqrt((of_states**2).mean(axis=0) / count).mean()
    return (
        f"The standard error over agents is {over_agents:.2g} on average; the choice of states "
        f"alone makes one of {over_states:.2g}. "
    )


def view(given: Tables) -> View:
    """By checkpoint, horizons beside each other."""
    horizons = statistics.values(given["figure3"], "horizon")
    last = {"horizon": horizons[-1:]}
    measures = {
        "error": "value error (Definition 2)",
        "absolute_error": "value error (Definition 1)",
        "alive_error": "part predicted before the true end",
        "ended_error": "part predicted after the true end",
        "reward_error": "error of the h-th reward",
        "spread": "spread of true values",
    }
    lines = Lines(
        "step",
        "training steps",
        measures,
        colour="horizon",
        scale="training",
        beside=(
            Beside(
                "average_reward_error",
                f"mean reward predicted, h = {horizons[-1]}",
                last,
                ignores=("horizon",),
            ),
            Beside(
                "spread",
                f"spread of true values, h = {horizons[-1]}",
                last,
                ignores=("horizon",),
            ),
        ),
    )
    steps = statistics.values(given["figure3"], "step")
    choices = (
        Choice("horizon", "horizons h", first=style.few(horizons, 4)),
        Choice("step", "training steps", first=[step for step in steps if step > 0]),
    )
    return View((lines,), choices)


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["figure3"]
    last = statistics.values(table, "horizon")[-1]
    longest = statistics.rows(table, horizon=last)["standard_error"].to_numpy()
    noise = (
        ""
        if np.isnan(longest).any()
        else (
            f"The Monte Carlo standard error of one state's value at h = {last} is "
            f"{longest.mean():.2g} on average; errors well below it are not resolved. "
        )
    )
    trained = [step for step in statistics.values(table, "step") if step > 0]
    noise += states_beside_agents(table, step=trained, horizon=[last]) if trained else ""
    untrained = (
        " The scale is that of the trained models." if 0 in statistics.values(table, "step") else ""
    )
    return (
        "Value error (Definition 2) of the learned model on its own behaviour policy, by horizon "
        f"h, at {statistics.first(table, 'n_states')} on-policy states and "
        f"{statistics.first(table, 'n_sequences')} action sequences each. Lines are means over "
        f"{style.agents(table)}, bands one standard error over "
        f"agents. {noise}"
        "Thin lines: the error of a model that always predicts the mean reward, and the "
        f"standard deviation of the true values over sequences, both at h = {last}.{untrained} "
        "The policy examined (no noise, the schedule's temperature) is not quite the one that made "
        "the training data, with noise at the root and perhaps lanes at other temperatures."
    )


NEAR_ZERO = 0.05
"""Claim 2: an error at horizon 1 below this share of the mean |reward| is near zero."""


def _short_horizon(cells: Cells) -> Noted:
    first = {"horizon": 1}
    error = cells.mean("error", first, step=cells.positive())
    size = cells.mean("reward_size", first, step=cells.positive())
    paid = size != 0  # A size that is not a number stays, and leaves the claim undefined.
    share = np.where(paid, error / np.where(paid, size, 1.0), 0.0).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # No rewards at all: undefined.
        value = NEAR_ZERO - share / paid.sum(axis=1)
    if paid.all():
        return Noted(value, "")
    left = f"{(~paid).sum()} of {paid.size} agents' checkpoints"
    return Noted(value, f"left out: {left}, where no sequence has a reward at h = 1")


def _growth(cells: Cells) -> np.ndarray:
    horizons = cells.positive("horizon", least=2)
    error = cells.mean("error", step=cells.positive(), horizon=horizons).mean(axis=1)
    return np.diff(error, axis=1).min(axis=1)


def _growth_in_all(cells: Cells) -> np.ndarray:
    horizons = cells.positive("horizon", least=2)
    error = cells.mean("error", step=cells.positive(), horizon=[horizons[0], horizons[-1]])
    return (error[..., 1] - error[..., 0]).mean(axis=1)


def _at_longest(cells: Cells, column: str, steps: list[int]) -> np.ndarray:
    """[P, steps]"""
    return cells.mean(column, {"horizon": cells.values("horizon")[-1]}, step=steps)


def _not_equivalent(cells: Cells) -> np.ndarray:
    return _at_longest(cells, "squared_error", cells.positive()).mean(axis=1)


def _fall(cells: Cells) -> np.ndarray:
    steps = cells.positive(least=2)
    late = np.array(steps) > 0.75 * cells.steps
    if late.all() or not late.any():
        raise MissingCell(f"{cells.name} has no checkpoints on both sides of 3/4 of training.")
    error = _at_longest(cells, "error", steps)
    return error[:, ~late].mean(axis=1) - error[:, late].mean(axis=1)


def _late_fall(cells: Cells) -> np.ndarray:
    late = [step for step in cells.positive() if step >= cells.steps / 2]
    if len(late) < 2:
        raise MissingCell(
            f"{cells.name} has checkpoints {late} in the last half of training; this needs 2."
        )
    error = _at_longest(cells, "error", late)
    return error[:, :-1].mean(axis=1) - error[:, -1]


CLAIMS = (
    Claim(
        "2",
        "Value errors at short horizons are near zero.",
        f"{NEAR_ZERO:g} less the error at h = 1 as a share of the mean |reward|, mean over trained "
        "checkpoints",
        "figure3",
        _short_horizon,
    ),
    Claim(
        "3",
        "Value errors grow with the horizon, at every step of it.",
        "least rise of the error (mean over trained checkpoints) from one horizon to the next",
        "figure3",
        _growth,
    ),
    Claim(
        "3",
        "Value errors grow with the horizon.",
        "error at the longest horizon less that at h = 1, mean over trained checkpoints",
        "figure3",
        _growth_in_all,
        former=True,
    ),
    Claim(
        "3b",
        "Models are not value equivalent, not even on their own behaviour policy.",
        "squared error at the longest horizon by split halves, whose expectation is 0 for a "
        "perfect model, mean over trained checkpoints",
        "figure3",
        _not_equivalent,
    ),
    Claim(
        "4a",
        "Value errors fall towards the end of training.",
        "error at the longest horizon, mean over trained checkpoints up to three quarters of "
        "training, less the mean after",
        "figure3",
        _fall,
    ),
    Claim(
        "4b",
        "Value errors still fall within the last half of training.",
        "error at the longest horizon, mean over the checkpoints of the last half of training but "
        "the last, less that of the last",
        "figure3",
        _late_fall,
    ),
)

COMPARED_BY = tuple(
    Measure("value error, h = {horizon}", "error", {"horizon": which}, ratio=True)
    for which in (FIRST, LAST)
)

EXPERIMENT = Experiment(
    name="figure3",
    title="Figure 3: value error on the own behaviour policy",
    tables=(SCHEMA,),
    run=run,
    plot=plot,
    caption=caption,
    view=view,
    settings=OwnPolicy,
    claims=CLAIMS,
    measures=COMPARED_BY,
    work=work,
    memory=memory,
    number=STREAM,
    revision=2,  # Squared errors by split halves.
)
