"""One look for all figures: legible in print and on a phone, safe for colour-blind readers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito (2008).
COLOURS = {"mcts": "#0072B2", "prior": "#E69F00"}

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


def single() -> tuple[Figure, Axes]:
    """A one-column figure: 3.5 inches wide, as journals print it."""
    figure = Figure(figsize=(3.5, 2.5), layout="constrained")
    return figure, figure.subplots()


def band(
    axes: Axes,
    x: Sequence[int],
    mean: Sequence[float],
    error: Sequence[float],
    colour: str,
    label: str,
) -> None:
    """A line with markers and a band of one standard error (none where it is unknown)."""
    low = np.asarray(mean) - np.nan_to_num(error)
    high = np.asarray(mean) + np.nan_to_num(error)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, mean, color=colour, marker="o", label=label)


def training_axis(axes: Axes, steps: Sequence[int]) -> None:
    """Training steps, logarithmic beyond the first checkpoint after 0, ticks at checkpoints."""
    positive = [s for s in steps if s > 0]
    if positive:
        axes.set_xscale("symlog", linthresh=positive[0])
    axes.set_xticks(list(steps), [thousands(s) for s in steps])
    axes.minorticks_off()
    axes.tick_params(axis="x", labelrotation=0 if len(steps) <= 8 else 45)
    axes.set_xlabel("training steps")


def thousands(n: int) -> str:
    """500, 1K, 2.5K, 1M."""
    for size, letter in ((1_000_000, "M"), (1_000, "K")):
        if n >= size:
            return f"{n / size:g}{letter}"
    return str(n)
