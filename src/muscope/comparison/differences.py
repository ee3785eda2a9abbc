"""How far runs differ from a reference: with intervals over agents, corrected for their number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from muscope.claims import ALPHA, FEWEST, Interval, difference, holm, interval
from muscope.comparison.runs import Compared, looked_at_otherwise, paired
from muscope.comparison.values import Curve
from muscope.experiments.base import Experiment
from muscope.storage.schema import Schema, number, text

HIGHER, LOWER, SAME, UNKNOWN = "higher", "lower", "no difference found", "cannot tell"
DIFFERS = (HIGHER, LOWER)
"""Verdicts that claim a difference."""
CORRECTED = (
    "Differences are means over agents, of agents of equal seed and number pair by pair, with "
    "95 % intervals (bootstrap; with few agents at least Student's t). p is two-sided and belongs "
    "to the interval; a difference is claimed where p, corrected for the number of comparisons in "
    "its experiment (Holm's step-down), is below 5 %. Intervals are not corrected. Fewer than "
    f"{FEWEST} agents on a side decide nothing."
)
"""For readers of the differences."""
DIFFERENCES = Schema(
    "differences",
    "one row per measure, place and run other than the reference",
    (
        text("experiment", "whose tables it is from; p is corrected within it"),
        text("measure", "what is measured, in words"),
        text("column", "the table and column that it is the mean of"),
        text("unit", "of the means and the difference"),
        text(
            "at",
            "the last place that both runs have, or 'mean of trained checkpoints', those after "
            "step 0 that both have",
        ),
        text("run", "the run"),
        text("reference", "the run that it is held against"),
        number("run_mean", "over its agents that enter", undefined=True),
        number("reference_mean", "over the reference's agents that enter", undefined=True),
        number("difference", "run less reference", undefined=True),
        number("low", "lower end of its 95 % interval, not corrected", undefined=True),
        number("high", "upper end of it", undefined=True),
        number(
            "p",
            "two-sided: the smallest alpha at which the interval leaves out 0; not below 1e-5; NaN "
            "where a single agent is on either side",
            undefined=True,
        ),
        number("p_adjusted", "p by Holm's step-down over the experiment's rows", undefined=True),
        text("agents", "'paired' and how many pairs, or how many on either side"),
        text(
            "verdict",
            f"'{HIGHER}' or '{LOWER}' (p_adjusted below {ALPHA:g}), '{SAME}', or '{UNKNOWN}': "
            f"fewer than {FEWEST} agents on a side",
        ),
        text("note", "what is missing, and settings of the experiment that differ"),
    ),
)


class _Sides(NamedTuple):
    """What of a run and of the reference is held against each other."""

    at: str
    run: np.ndarray
    """[P], one number per agent."""
    reference: np.ndarray
    """[Q]; the same agents as the run's, in order, if they are paired."""


def between(
    experiment: Experiment,
    found: Sequence[tuple[Curve, Mapping[str, Curve]]],
    runs: Sequence[Compared],
) -> pa.Table:
    """The rows of an experiment.

    Args:
        experiment: which.
        found: its curves (:func:`muscope.comparison.values.curves`).
        runs: the first is the reference.

    """
    reference, *others = runs
    seed = reference.said(experiment)["evaluate_seed"]
    rows = []
    for run in others:
        if not run.has(experiment):
            continue
        notes = looked_at_otherwise(run, reference, experiment)
        pairs = paired(run, reference, experiment)
        for theirs, curves in found:
            ours = curves.get(run.name)
            for sides in _sides(ours, theirs, pairs) if ours else ():
                rows.append(
                    {
                        "experiment": experiment.name,
                        "measure": theirs.label,
                        "column": theirs.column,
                        "unit": theirs.unit,
                        "at": sides.at,
                        "run": run.name,
                        "reference": reference.name,
                        "note": "; ".join(notes),
                        **_estimated(sides, pairs, seed),
                    }
                )
    corrected = holm([row["p"] for row in rows])
    rows = [_judged(row, float(p)) for row, p in zip(rows, corrected, strict=True)]
    return pa.Table.from_pylist(rows, schema=DIFFERENCES.arrow())


def _sides(ours: Curve, theirs: Curve, pairs: bool) -> Iterator[_Sides]:
    """A measure's comparisons: at the last place that both have, and through training."""
    shared = [place for place in theirs.places if place in ours.places]
    if pairs:
        agents = [agent for agent in theirs.agents if agent in ours.agents]
        ours, theirs = (_of(curve, agents) for curve in (ours, theirs))
    if not shared:
        return
    yield _at([shared[-1]], _place(ours, shared[-1]), ours, theirs, pairs)
    trained = [place for place in shared if ours.through_training and place > 0]
    if len(trained) > 1:
        yield _at(trained, "mean of trained checkpoints", ours, theirs, pairs)


def _of(curve: Curve, agents: Sequence[int]) -> Curve:
    """A curve of some of its agents."""
    index = [curve.agents.index(agent) for agent in agents]
    return curve._replace(agents=list(agents), values=curve.values[index])


def _place(curve: Curve, place: Any) -> str:
    if not curve.axis:
        return "all"
    return f"{'step' if curve.through_training else curve.axis} {place:,}"


def _at(places: Sequence[Any], words: str, ours: Curve, theirs: Curve, pairs: bool) -> _Sides:
    """Means over places; agents without one of them are left out, with their pair."""
    run, reference = (
        curve.values[:, [curve.places.index(place) for place in places]].mean(axis=1)
        for curve in (ours, theirs)
    )
    if pairs:
        known = ~np.isnan(run + reference)
        return _Sides(words, run[known], reference[known])
    return _Sides(words, run[~np.isnan(run)], reference[~np.isnan(reference)])


def _estimated(sides: _Sides, pairs: bool, seed: int) -> dict[str, Any]:
    run, reference = sides.run, sides.reference
    count = f"{len(run)} paired" if pairs else f"{len(run)} and {len(reference)}"
    agents = {"agents": count, "fewest": min(len(run), len(reference))}  # The last is no column.
    if not agents["fewest"]:
        found = Interval(*[float("nan")] * 4)
        return {**agents, **_numbers(found, float("nan"), float("nan"))}
    found = interval(run - reference, seed) if pairs else difference(run, reference, seed)
    return {**agents, **_numbers(found, float(run.mean()), float(reference.mean()))}


def _numbers(found: Interval, run: float, reference: float) -> dict[str, float]:
    return {
        "run_mean": run,
        "reference_mean": reference,
        "difference": found.estimate,
        "low": found.low,
        "high": found.high,
        "p": found.p,
    }


def _judged(row: dict[str, Any], p: float) -> dict[str, Any]:
    verdict = SAME
    if np.isnan(p) or row["fewest"] < FEWEST:
        verdict = UNKNOWN
    elif p < ALPHA:
        verdict = HIGHER if row["difference"] > 0 else LOWER
    return {**row, "p_adjusted": p, "verdict": verdict}
