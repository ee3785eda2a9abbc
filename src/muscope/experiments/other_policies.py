"""Figure 5: one checkpoint's model on the policies of all the others.

A row of the matrix (one model, X) shares its states and its random numbers, so only comparisons
within a row mean anything.  The diagonal is Figure 3 at the same horizon and number of sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from muscope import statistics
from muscope.claims import Cells, Claim, Noted
from muscope.config import EvaluateConfig, Settings
from muscope.config.base import Count, HorizonOrNone
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables, every
from muscope.experiments.lab import Bench
from muscope.experiments.measure import LAST, Measure
from muscope.experiments.memory import Sizes
from muscope.experiments.own_policy import (
    SQUARED_ERROR,
    SQUARED_NOISE,
    STREAM,
    following,
    memory_of_following,
    report_of,
    states_beside_agents,
)
from muscope.experiments.view import Choice, Lines, Matrix, View
from muscope.room import Part
from muscope.storage.schema import AGENT, Schema, integer, number
from muscope.subjects import Subject
from muscope.work import Work

TINY = np.finfo(float).tiny
"""A perfect model has rows of zeros."""
SCHEMA = Schema(
    "figure5",
    "one row per (agent, model's checkpoint X, policy's checkpoint Y); errors are means over "
    "states",
    (
        AGENT,
        integer("model_step", "X: training step of the model, whose on-policy states they are"),
        integer("policy_step", "Y: training step of the behaviour policy that is followed"),
        number("error", "Definition 2 at horizon h", "return"),
        number("standard_error", "Monte Carlo standard error at one state (from R)", "return"),
        number("states_error", "standard error of error as a mean over the M states", "return"),
        number("spread", "standard deviation of the true values over R", "return"),
        SQUARED_ERROR,
        SQUARED_NOISE,
        integer("horizon", "h", "steps"),
        integer("n_states", "M"),
        integer("n_sequences", "R"),
        number("temperature", "T of Equation 1 at Y"),
    ),
)
MEASURES = (
    *("error", "standard_error", "states_error", "spread"),
    *(SQUARED_ERROR.name, SQUARED_NOISE.name),
)
"""Columns that :class:`muscope.evaluation.behaviour.PolicyReport` fills, at its last horizon."""


@dataclass(frozen=True)
class OtherPolicies(Settings):
    """Figure 5: how wrong is the model on the policies of other checkpoints?"""

    section = "figure5"

    sequences: Count = 32
    """R, Monte Carlo action sequences per state."""
    horizon: HorizonOrNone = 0
    """h; 0 for K, the steps that the model was trained to look ahead."""


def run(bench: Bench, settings: OtherPolicies, step: int) -> Tables:
    """One row of the matrix: the model of ``step`` on every checkpoint's policy."""
    horizon = settings.horizon or bench.subject.unroll
    others = every(bench.subject, bench.evaluate, settings)
    reports = [report_of(bench, step, other, settings.sequences, horizon) for other in others]
    measures = {
        name: np.stack([np.asarray(getattr(report, name))[:, -1] for report in reports], axis=1)
        for name in MEASURES
    }
    table = bench.table(
        SCHEMA,
        step,
        settings,
        model_step=step,
        policy_step=others,
        **measures,
        horizon=horizon,
        n_states=bench.evaluate.states,
        n_sequences=settings.sequences,
        temperature=[bench.temperature(other) for other in others],
    )
    return {"figure5": table}


def work(subject: Subject, evaluate: EvaluateConfig, settings: OtherPolicies) -> list[Work]:
    """Every checkpoint's policy is followed."""
    policies = len(every(subject, evaluate, settings))
    return following(subject, evaluate, settings.sequences, settings.horizon, policies)


def memory(sizes: Sizes, evaluate: EvaluateConfig, settings: OtherPolicies) -> list[Part]:
    """One policy after the other."""
    return memory_of_following("figure5", sizes, evaluate, settings.sequences, settings.horizon)


def matrices(table: pa.Table) -> tuple[list[int], Float[np.ndarray, "P X Y"]]:
    """The checkpoints and the errors of each agent's models X on its policies Y."""
    steps = statistics.values(table, "model_step")
    return steps, statistics.means(table, "error", model_step=steps, policy_step=steps)


def is_least(errors: Float[np.ndarray, "P X X"]) -> Bool[np.ndarray, "P X"]:
    """Whether the diagonal is below every other error of its row."""
    index = np.arange(errors.shape[1])
    own = errors[:, index, index]
    others = np.where(np.eye(len(index), dtype=bool), np.inf, errors)
    return own < others.min(axis=2)


def plot(given: Tables) -> Figure:
    """The mean matrix, and how many agents have their row's minimum in each cell."""
    steps, errors = matrices(given["figure5"])
    mean = errors.mean(axis=0)
    lowest = errors.argmin(axis=2)
    counts = (lowest[:, :, None] == np.arange(len(steps))).sum(axis=0)
    with style.context():
        figure, (left, right) = style.pair(height=3.4)
        _matrix(left, steps, mean, mean / np.maximum(mean.max(axis=1, keepdims=True), TINY), _short)
        left.scatter(mean.argmin(axis=1), np.arange(len(steps)) + 0.36, 6, "black", zorder=3)
        left.set_title("value error, mean over agents", fontsize=9)
        _matrix(right, steps, counts, counts / max(len(errors), 1), "{:.0f}".format)
        right.set_title("agents with the row's minimum here", fontsize=9)
        left.set_ylabel("model at step X")
        return figure


def _short(value: float) -> str:
    """A number that fits into a cell: 12, 0.56, 0.0035, 4e-5."""
    if 0.0 < value < 1e-3:
        digit, power = f"{value:.0e}".split("e")
        return f"{digit}e{int(power)}"
    return f"{value:.2g}"


def _matrix(
    axes: Axes,
    steps: list[int],
    values: np.ndarray,
    shade: np.ndarray,
    form: Callable[[float], str],
) -> None:
    """Numbers on shaded cells, the diagonal outlined."""
    axes.imshow(shade, cmap="Blues", vmin=0.0, vmax=1.6, aspect="auto")
    size = 8 if len(steps) <= 6 else 6
    for (x, y), value in np.ndenumerate(values):
        axes.text(y, x, form(value), ha="center", va="center", fontsize=size)
    for i in range(len(steps)):
        box = Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.2)
        axes.add_patch(box)
    names = [style.thousands(s) for s in steps]
    axes.set_xticks(range(len(steps)), names, rotation=0 if len(steps) <= 6 else 45)
    axes.set_yticks(range(len(steps)), names)
    axes.set_xlabel("policy at step Y")
    axes.grid(False)


def view(given: Tables) -> View:
    """All models on all policies, and one row of it with single agents."""
    measures = {
        "error": "value error (Definition 2)",
        SQUARED_ERROR.name: "squared error by split halves",
        "spread": "spread of true values",
    }
    axis = "policy at step Y"
    matrix = Matrix("policy_step", axis, "model_step", "model at step X", measures)
    row = Lines(
        "policy_step",
        axis,
        measures,
        scale="training",
        upright="model_step",
        title="the row of the model at step X; upright: its own policy",
    )
    return View((matrix, row), (Choice("model_step", "model at step X", "slider"),))


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["figure5"]
    steps, errors = matrices(table)
    least = is_least(errors).sum(axis=1)
    noise = statistics.summary(table, "standard_error")
    resolution = (
        f" Monte Carlo standard error of one state's value: {noise.mean:.2g} on average."
        if noise.n
        else ""
    )
    trained = [step for step in steps if step > 0]
    beside = states_beside_agents(table, model_step=trained, policy_step=steps) if trained else ""
    return (
        f"Left: value error (Definition 2, h = {statistics.first(table, 'horizon')}) of the model "
        "at step X on the behaviour policy at step Y of the same agent, mean over "
        f"{style.agents(table)}; {statistics.first(table, 'n_states')} states on-policy at X, "
        f"{statistics.first(table, 'n_sequences')} action sequences each. Shades compare within a "
        "row only; the diagonal is outlined, a dot marks the row's minimum. Right: how many agents "
        "have their row's minimum there. The diagonal is below all others in "
        f"{', '.join(map(str, least[:8]))}{', ...' if len(least) > 8 else ''} of {len(steps)} "
        f"rows, agent by agent.{resolution}{beside and ' ' + beside.strip()}"
    )


MOST_ROWS = 0.5
"""Former claim 7: the diagonal must be the minimum in more than this share of the rows."""
RESOLVED = 2.0
"""Claims 7 and 8: a difference within so many Monte Carlo standard errors is a tie."""
EXCESS = (
    "mean squared error (split halves) on {others} policies less that on its own, as a share of "
    f"the row's mean |squared error|; 0 where the two are within {RESOLVED:g} Monte Carlo standard "
    "errors"
)
"""What is computed of a row, for a claim's ``statistic``."""


def _relative_excess(cells: Cells, of_row: Bool[np.ndarray, "X Y"]) -> Noted:
    """How much larger a model's squared error is on some policies than on its own, as a share of
    the row's mean size; the mean over rows that have any such policies.

    Squared errors by split halves are unbiased whatever the policies' own Monte Carlo errors are,
    so a model that is as good on all policies has 0.  A share of a row of nothing but noise would
    be any number, and what is not resolved counts as 0: neither for the claim nor against it.
    """
    steps = cells.positive("model_step", least=2)
    squared, noise = (
        cells.mean(column.name, model_step=steps, policy_step=steps)
        for column in (SQUARED_ERROR, SQUARED_NOISE)
    )
    rows = np.flatnonzero(of_row.any(axis=1))
    size = np.abs(squared).mean(axis=2)[:, rows]
    weight = of_row[rows] / of_row[rows].sum(axis=1, keepdims=True)
    excess = (squared[:, rows] * weight).sum(axis=2) - squared[:, rows, rows]
    error = np.hypot(np.sqrt((noise[:, rows] ** 2 * weight**2).sum(axis=2)), noise[:, rows, rows])
    tied = np.abs(excess) <= RESOLVED * error
    share = np.divide(excess, size, out=np.zeros_like(excess), where=~tied & (size > 0))
    return Noted(
        share.mean(axis=1), f"ties within Monte Carlo error: {tied.sum()} of {tied.size} rows"
    )


def _off_the_diagonal(cells: Cells) -> Noted:
    count = len(cells.positive("model_step", least=2))
    return _relative_excess(cells, ~np.eye(count, dtype=bool))


def _later_policies(cells: Cells) -> Noted:
    count = len(cells.positive("model_step", least=2))
    early = np.arange(count)[:, None] < count // 2
    return _relative_excess(cells, early & np.triu(np.ones((count, count), bool), 1))


def _diagonal(cells: Cells) -> np.ndarray:
    steps = cells.positive("model_step", least=2)
    error = cells.mean("error", model_step=steps, policy_step=steps)
    return is_least(error).mean(axis=1) - MOST_ROWS


def _first_on_last(cells: Cells) -> np.ndarray:
    steps = cells.positive("model_step", least=2)
    error = cells.mean("error", {"model_step": steps[0]}, policy_step=[steps[0], steps[-1]])
    return error[:, 1] - error[:, 0]


CLAIMS = (
    Claim(
        "7",
        "Each model is most accurate on the policy of its own step.",
        f"{EXCESS.format(others='all other trained')}; mean over trained models. A model that is "
        "as good on every policy has 0, which is chance",
        "figure5",
        _off_the_diagonal,
    ),
    Claim(
        "7",
        "Each model is most accurate on the policy of its own step.",
        f"share of trained rows whose minimum is the diagonal, less {MOST_ROWS:g}; by chance the "
        "share is one over the number of rows",
        "figure5",
        _diagonal,
        former=True,
    ),
    Claim(
        "8",
        "Early models evaluate later policies badly.",
        f"{EXCESS.format(others='all later')}; mean over the first half of the trained models. A "
        "model that is as good on every policy has 0",
        "figure5",
        _later_policies,
        ("cart-pole", "lunar-lander"),
        elsewhere=True,
    ),
    Claim(
        "8",
        "Early models evaluate later policies badly.",
        "error of the first trained model on the last policy less that on its own",
        "figure5",
        _first_on_last,
        former=True,
    ),
)

COMPARED_BY = (
    Measure(
        "error on the policy at {policy_step}",
        "error",
        {"policy_step": LAST},
        x="model_step",
        ratio=True,
    ),
)

EXPERIMENT = Experiment(
    name="figure5",
    title="Figure 5: one step's model, another step's policy",
    tables=(SCHEMA,),
    run=run,
    plot=plot,
    caption=caption,
    view=view,
    settings=OtherPolicies,
    claims=CLAIMS,
    measures=COMPARED_BY,
    work=work,
    memory=memory,
    across=True,
    number=STREAM,
    revision=2,  # Squared errors by split halves.
)
