"""One look for all figures: legible in print and on a phone, safe for colour-blind readers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from muscope import statistics

# Okabe and Ito (2008).
COLOURS = {"mcts": "#0072B2", "prior": "#E69F00"}
MODEL_COLOURS = {"learned": "#D55E00", "true": "#009E73"}
PRIOR_COLOURS = {"policy": "#0072B2", "uniform": "#E69F00"}

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.frameon": False,
    "savefig.dpi": 300,
    "svg.hashsalt": "muscope",
}


def context() -> AbstractContextManager[None]:
    """Matplotlib settings of every figure."""
    return mpl.rc_context(_RC)


def single(height: float = 2.5) -> tuple[Figure, Axes]:
    """A one-column figure: 3.5 inches wide, as journals print it."""
    figure = Figure(figsize=(3.5, height), layout="constrained")
    return figure, figure.subplots()


def pair(height: float = 2.5) -> tuple[Figure, list[Axes]]:
    """Two panels side by side over the full width of a page, 7 inches."""
    figure = Figure(figsize=(7.0, height), layout="constrained")
    return figure, list(figure.subplots(1, 2))


def grid(count: int, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """``count`` panels, ``columns`` in a row, over the full width of a page."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(7.0 if columns > 1 else 3.5, 2.1 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in panels[count:]:
        spare.remove()
    return figure, list(panels[:count])


def few(values: Sequence[int], most: int) -> list[int]:
    """At most ``most`` of the values, evenly spread, first and last among them."""
    index = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return [values[i] for i in index]


def band(
    axes: Axes,
    x: Sequence[int] | np.ndarray,
    mean: Sequence[float],
    error: Sequence[float],
    colour: str | tuple[float, ...],
    label: str,
    marker: str | None = "o",
    linestyle: str = "-",
    filled: bool = True,
) -> None:
    """A line and a band of one standard error (none where it is unknown); of a single point, the
    point and a bar.
    """
    looks: dict[str, Any] = {"color": colour, "linestyle": linestyle, "label": label}
    looks["markerfacecolor"] = colour if filled else "white"
    if len(x) == 1:
        bar = np.nan_to_num(error)
        axes.errorbar(x, mean, bar, marker=marker or "o", capsize=2.5, elinewidth=1.0, **looks)
        return
    low = np.asarray(mean) - np.nan_to_num(error)
    high = np.asarray(mean) + np.nan_to_num(error)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, mean, marker=marker, **looks)


def thin(
    axes: Axes,
    x: Sequence[int] | np.ndarray,
    y: Sequence[float],
    dashes: tuple[float, float],
    label: str,
    colour: str = "#555555",
) -> None:
    """A thin dashed line of reference; at a single place, a dash."""
    alone: dict[str, Any] = {"marker": "_", "markersize": 14} if len(x) == 1 else {}
    axes.plot(x, y, color=colour, linewidth=0.8, dashes=dashes, label=label, **alone)


def legend_below(figure: Figure, *axes: Axes, columns: int = 3) -> None:
    """One legend under the panels, for the lines of ``axes``."""
    entries = [
        (handle, label)
        for panel in axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    ]
    figure.legend(
        *zip(*entries, strict=True), loc="outside lower center", ncols=columns, fontsize=8
    )


def twin_labels(
    left: Sequence[Axes], right: Sequence[Axes], left_label: str, right_label: str
) -> None:
    """Label the outer axes of a row-major grid of three columns with two y axes each."""
    for i, (a, b) in enumerate(zip(left, right, strict=True)):
        if i % 3 == 0:
            a.set_ylabel(left_label, color=COLOURS["mcts"])
        if i % 3 == 2 or i == len(left) - 1:
            b.set_ylabel(right_label, color="#9a6700")


def training_axis(axes: Axes, steps: Sequence[int]) -> None:
    """Training steps, logarithmic beyond the first checkpoint after 0, ticks at checkpoints."""
    positive = [s for s in steps if s > 0]
    if positive:
        axes.set_xscale("symlog", linthresh=positive[0])
    axes.set_xticks(list(steps), [thousands(s) for s in steps])
    axes.minorticks_off()
    axes.tick_params(axis="x", labelrotation=0 if len(steps) <= 7 else 45)
    axes.set_xlabel("training steps")


def scale_to_trained(axes: Axes, steps: Sequence[int]) -> None:
    """Let the y axis, from 0, fit the trained checkpoints' lines; step 0 may leave it."""
    trained = [i for i, step in enumerate(steps) if step > 0]
    if not trained:
        return
    tops = [
        np.asarray(line.get_ydata(), float)[trained].max()
        for line in axes.get_lines()
        if len(np.atleast_1d(line.get_ydata())) == len(steps)
    ]
    tops = [top for top in tops if np.isfinite(top)]  # All agents may have diverged.
    axes.set_ylim(0.0, 1.15 * max(tops, default=0.0) or 1.0)  # A perfect model's are all 0.


def mark(figure: Figure, words: str) -> None:
    """A line over all panels: what a reader must know before believing them."""
    figure.suptitle(words, fontsize=7, color="#b00020", wrap=True)


def agents(given: int | pa.Table) -> str:
    """How many agents there are, or those of a table: 1 agent, 2 agents."""
    count = given if isinstance(given, int) else len(statistics.values(given, "agent"))
    return f"{count} agent{'s' if count != 1 else ''}"


def thousands(n: int) -> str:
    """500, 1K, 2.5K, 1M."""
    for size, letter in ((1_000_000, "M"), (1_000, "K")):
        if n >= size:
            return f"{n / size:g}{letter}"
    return str(n)
