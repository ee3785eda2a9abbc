"""Pictures of runs side by side: their curves, and how far they are from the reference."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from muscope.comparison.differences import DIFFERS, RATIO
from muscope.comparison.values import Curve
from muscope.experiments import style

FEW = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito (2008); the reference is black."""
MOST_BANDS = 4
"""Runs from which on bands of one standard error would hide each other."""
DASHES = ("-", "--", ":")
PANEL = 7.0 / 3  # inches
WIDTH = 30
"""Characters of a panel's title."""


def looks(names: Sequence[str]) -> dict[str, tuple[Any, str]]:
    """A colour and a line style for every run, the reference first."""
    if len(names) <= len(FEW):
        return {name: (FEW[i], "-") for i, name in enumerate(names)}
    many = colormaps["tab10"].colors  # type: ignore[attr-defined]
    found = {names[0]: (FEW[0], "-")}
    for i, name in enumerate(names[1:]):
        found[name] = (many[i % len(many)], DASHES[i // len(many) % len(DASHES)])
    return found


def draw_curves(
    measures: Sequence[tuple[Curve, Mapping[str, Curve]]], names: Sequence[str]
) -> Figure:
    """A panel per measure, a line per run: means over agents, and bands of one standard error if
    the runs are few.

    Args:
        measures: curves of the reference and, by name, of the others.
        names: of all runs, the reference first.

    """
    with style.context():
        figure, panels = style.grid(len(measures))
        dressed = looks(names)
        for axes, (first, others) in zip(panels, measures, strict=True):
            for name, curve in {names[0]: first, **others}.items():
                _line(axes, curve, *dressed[name], name, banded=len(names) <= MOST_BANDS)
            _label(axes, first)
        handles = {
            label: handle
            for axes in panels
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        shown = [name for name in names if name in handles]
        columns = min(len(panels), 3)
        figure.set_figheight(figure.get_figheight() + 0.15 * (len(shown) // columns))
        figure.legend(
            [handles[name] for name in shown],
            shown,
            loc="outside lower center",
            ncols=columns,
            fontsize=7,
        )
        return figure


def _line(axes: Axes, curve: Curve, colour: Any, dashes: str, name: str, *, banded: bool) -> None:
    summaries = curve.summaries()
    means = [s.mean for s in summaries]
    errors = [s.standard_error if banded else 0.0 for s in summaries]
    style.band(axes, curve.places, means, errors, colour, name, linestyle=dashes)


def _label(axes: Axes, curve: Curve) -> None:
    axes.set_title(textwrap.fill(curve.label, WIDTH), fontsize=8)
    if curve.through_training:
        style.training_axis(axes, curve.places)
        axes.tick_params(axis="x", labelsize=6, labelrotation=45)
    elif curve.axis:
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks(curve.places, [style.thousands(place) for place in curve.places])
        axes.minorticks_off()
        axes.set_xlabel(curve.axis)
    else:
        axes.set_xticks([])
    if curve.unit:
        axes.set_ylabel(curve.unit)


def draw_differences(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figure:
    """A panel per measure and place, a line per run: its difference from the reference, or its
    ratio to it, with the 95 % interval, filled where a difference is claimed.

    Args:
        rows: of an experiment's differences.
        names: of all runs, the reference first.

    """
    panels = list(dict.fromkeys((row["measure"], row["at"]) for row in rows))
    columns = min(len(panels), 3)
    deep = -(-len(panels) // columns)
    height = deep * (0.75 + 0.16 * (len(names) - 1))
    with style.context():
        dressed = looks(names)
        figure = Figure(figsize=(max(PANEL * columns + 0.8, 3.5), height), layout="constrained")
        grid = figure.subplots(deep, columns, squeeze=False, sharey=True).ravel()
        for axes, (measure, at) in zip(grid, panels, strict=False):
            shown = [row for row in rows if (row["measure"], row["at"]) == (measure, at)]
            ratios = shown[0]["scale"] == RATIO  # As of all runs.
            for row in shown:
                _bar(axes, row, names.index(row["run"]), dressed[row["run"]][0])
            if ratios:
                _factors(axes)
            axes.axvline(1.0 if ratios else 0.0, color=FEW[0], linewidth=0.8)
            factor = " (x)" if ratios else ""
            axes.set_title(f"{textwrap.fill(measure, WIDTH)}\n{at}{factor}", fontsize=7)
            axes.set_yticks(range(1, len(names)), names[1:], fontsize=7)
            axes.set_ylim(len(names) - 0.4, 0.4)
            axes.tick_params(axis="x", labelsize=7)
        for spare in grid[len(panels) :]:
            spare.remove()
        return figure


def _factors(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers, as few as fit."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    steps = [1.0, 2.0, 5.0] if high < 100 * low else [1.0]
    if high < 10 * low:
        steps = [1.0, 1.5, 2.0, 3.0, 5.0, 7.0]
    axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=6))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _bar(axes: Axes, row: Mapping[str, Any], place: int, colour: Any) -> None:
    claimed = row["verdict"] in DIFFERS
    if np.isfinite(row["low"]):
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.4)
    looks = {"color": colour, "markerfacecolor": colour if claimed else "white"}
    estimate = row["ratio"] if row["scale"] == RATIO else row["difference"]
    axes.plot([estimate], [place], marker="o", markersize=4.5, **looks)
