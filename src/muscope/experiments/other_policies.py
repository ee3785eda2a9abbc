"""Figure 5: one checkpoint's model on the policies of all the others.

Table ``figure5``, one row per (agent, model's checkpoint X, policy's checkpoint Y):

    agent        int    the agent, 0..P-1
    model_step   int    X: training step of the model; the states are X's on-policy states
    policy_step  int    Y: training step of the behaviour policy that is followed
    error        float  Definition 2 at horizon h, mean over states
    standard_error   float  Monte Carlo standard error at one state (from R), mean over states
    states_error     float  standard error of ``error`` as a mean over the M states
    spread       float  standard deviation of the true values over R, mean over states
    horizon      int    h
    n_states     int    M
    n_sequences  int    R
    temperature  float  T of Equation 1 at Y

and the settings every table has (:data:`muscope.storage.tables.SETTINGS`).  A row (X) shares
its states and its random numbers, so only comparisons within a row mean anything; the
diagonal is Figure 3 at the same horizon.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from muscope import statistics
from muscope.experiments import figure3, style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Lab

SCHEMA = {
    "agent": pa.int64(),
    "model_step": pa.int64(),
    "policy_step": pa.int64(),
    "error": pa.float64(),
    "standard_error": pa.float64(),
    "states_error": pa.float64(),
    "spread": pa.float64(),
    "horizon": pa.int64(),
    "n_states": pa.int64(),
    "n_sequences": pa.int64(),
    "temperature": pa.float64(),
}
KEPT = ("error", "standard_error", "states_error", "spread")


def run(lab: Lab, step: int) -> Tables:
    """One row of the matrix: the model of ``step`` on every checkpoint's policy."""
    states, keys = lab.on_policy(step).states, lab.keys(step, 2)
    row = [
        lab.call(
            figure3.evaluate_policy,
            lab.agents(step),
            lab.agents(other),
            states,
            keys,
            shared=(lab.temperature(other),),
        )
        for other in lab.steps
    ]
    columns = {
        name: np.stack([np.asarray(getattr(cell, name))[:, -1] for cell in row], axis=1)
        for name in KEPT
    }
    table = lab.table(
        SCHEMA,
        step,
        model_step=step,
        policy_step=np.array(lab.steps),
        **columns,
        horizon=lab.horizon,
        n_states=lab.config.evaluate.states,
        n_sequences=lab.config.evaluate.sequences,
        temperature=np.array([lab.temperature(other) for other in lab.steps]),
    )
    return {"figure5": table}


def matrices(table: pa.Table) -> tuple[list[int], np.ndarray]:
    """The checkpoints and the errors [P, X, Y]."""
    steps = sorted(set(table["model_step"].to_pylist()))
    columns = [table[name].to_numpy() for name in ("policy_step", "model_step", "agent")]
    errors = table["error"].to_numpy()[np.lexsort(columns)]
    return steps, errors.reshape(-1, len(steps), len(steps))


def diagonal_rows(table: pa.Table) -> np.ndarray:
    """Per agent, in how many rows the diagonal is the smallest error. [P]"""
    _, errors = matrices(table)
    return is_least(errors).sum(axis=1)


def is_least(errors: np.ndarray) -> np.ndarray:
    """Whether the diagonal of [P, X, X] is below every other error of its row. [P, X]"""
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
        _matrix(left, steps, mean, mean / mean.max(axis=1, keepdims=True), "{:.2g}")
        left.scatter(mean.argmin(axis=1), np.arange(len(steps)) + 0.36, 6, "black", zorder=3)
        left.set_title("value error, mean over agents", fontsize=9)
        _matrix(right, steps, counts, counts / max(len(errors), 1), "{:.0f}")
        right.set_title("agents with the row's minimum here", fontsize=9)
        left.set_ylabel("model at step X")
        return figure


def _matrix(axes: Axes, steps: list[int], values: np.ndarray, shade: np.ndarray, form: str) -> None:
    """Numbers on shaded cells, the diagonal outlined."""
    axes.imshow(shade, cmap="Blues", vmin=0.0, vmax=1.6, aspect="auto")
    size = 8 if len(steps) <= 6 else 6
    for (x, y), value in np.ndenumerate(values):
        axes.text(y, x, form.format(value), ha="center", va="center", fontsize=size)
    for i in range(len(steps)):
        box = Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.2)
        axes.add_patch(box)
    names = [style.thousands(s) for s in steps]
    axes.set_xticks(range(len(steps)), names, rotation=0 if len(steps) <= 6 else 45)
    axes.set_yticks(range(len(steps)), names)
    axes.set_xlabel("policy at step Y")
    axes.grid(False)


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["figure5"]
    steps, errors = matrices(table)
    rows = diagonal_rows(table)
    noise = statistics.over_agents(*statistics.select(table, "standard_error"))
    resolution = (
        f" Monte Carlo standard error of one state's value: {noise.mean:.2g} on average."
        if noise.n
        else ""
    )
    return (
        f"Left: value error (Definition 2, h = {table['horizon'][0]}) of the model at step X on "
        f"the behaviour policy at step Y of the same agent, mean over {len(errors)} agents; "
        f"{table['n_states'][0]} states on-policy at X, {table['n_sequences'][0]} action sequences "
        "each. Shades compare within a row only; the diagonal is outlined, a dot marks the row's "
        "minimum. Right: how many agents have their row's minimum there. The diagonal is below all "
        f"others in {', '.join(map(str, rows[:8]))}{', ...' if len(rows) > 8 else ''} of "
        f"{len(steps)} rows, agent by agent.{resolution}"
    )


EXPERIMENT: Experiment = Experiment(
    name="figure5",
    title="Figure 5: one step's model, another step's policy",
    settings=figure3.settings,
    run=run,
    plot=plot,
    caption=caption,
    across=True,
)
