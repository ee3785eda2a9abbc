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
PLAIN, RATIO = "difference", "ratio"
"""Scales."""
THROUGH = "mean of trained checkpoints"
"""The place of a mean through training."""
CORRECTED = (
    "Differences are means over agents, of agents of equal seed and number pair by pair, with "
    "95 % intervals (bootstrap; with few agents at least Student's t). Errors, which are "
    "heavy-tailed, differ by a factor (x): the ratio of geometric means over agents, which is the "
    "difference of their logarithms. p is two-sided and belongs "
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
            f"the last place that both runs have, or '{THROUGH}', those after step 0 that both "
            "have",
        ),
        text("run", "the run"),
        text("reference", "the run that it is held against"),
        number("run_mean", "over its agents that enter", undefined=True),
        number("reference_mean", "over the reference's agents that enter", undefined=True),
        number("difference", "run less reference", undefined=True),
        text(
            "scale",
            f"'{PLAIN}', or '{RATIO}' for errors none of which is 0: what low, high and p are of",
        ),
        number(
            "ratio",
            f"run over reference, both geometric means over agents; NaN on the scale '{PLAIN}'",
            undefined=True,
        ),
        number("low", "lower end of the 95 % interval, not corrected", undefined=True),
        number("high", "upper end of it", undefined=True),
        number(
            "p",
            "two-sided: the smallest alpha at which the interval leaves out 0, or a ratio of 1; "
            "not below 1e-5; NaN where a single agent is on either side",
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

    def positive(self) -> bool:
        """Whether all have a logarithm."""
        return bool(np.all(self.run > 0) and np.all(self.reference > 0))


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
    seed = runs[0].said(experiment)["evaluate_seed"]
    rows = [row for theirs, others in found for row in _of_one(experiment, theirs, others, runs)]
    numbers = [
        {**row, **_estimated(row["sides"], row["pairs"], row["scale"], seed)} for row in rows
    ]
    corrected = holm([row["p"] for row in numbers])
    judged = [_judged(row, float(p)) for row, p in zip(numbers, corrected, strict=True)]
    return pa.Table.from_pylist(judged, schema=DIFFERENCES.arrow())


def _of_one(
    experiment: Experiment,
    theirs: Curve,
    others: Mapping[str, Curve],
    runs: Sequence[Compared],
) -> list[dict[str, Any]]:
    """The rows of one measure, still without their numbers; all of a place on one scale."""
    reference = runs[0]
    rows: list[dict[str, Any]] = []
    for run in runs[1:]:
        if run.name not in others:
            continue
        notes = "; ".join(looked_at_otherwise(run, reference, experiment))
        pairs = paired(run, reference, experiment)
        for sides in _sides(others[run.name], theirs, pairs):
            rows.append(
                {
                    "experiment": experiment.name,
                    "measure": theirs.label,
                    "column": theirs.column,
                    "unit": theirs.unit,
                    "at": sides.at,
                    "run": run.name,
                    "reference": reference.name,
                    "note": notes,
                    "pairs": pairs,  # These two are no columns.
                    "sides": sides,
                }
            )
    places = {row["at"] for row in rows}
    have = {at: all(row["sides"].positive() for row in rows if row["at"] == at) for at in places}
    for row in rows:
        row["scale"] = RATIO if theirs.ratio and have[row["at"]] else PLAIN
    return rows


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
        yield _at(trained, THROUGH, ours, theirs, pairs)


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


def _estimated(sides: _Sides, pairs: bool, scale: str, seed: int) -> dict[str, Any]:
    """The numbers of a row."""
    run, reference = sides.run, sides.reference
    known = bool(len(run) and len(reference))
    found = Interval(*[float("nan")] * 4)
    if known:
        ours, theirs = (np.log(run), np.log(reference)) if scale == RATIO else (run, reference)
        found = interval(ours - theirs, seed) if pairs else difference(ours, theirs, seed)
    means = [float(side.mean()) if known else float("nan") for side in (run, reference)]
    ends = np.array([found.low, found.high])
    low, high = (np.exp(ends) if scale == RATIO else ends).tolist()
    return {
        "agents": f"{len(run)} paired" if pairs else f"{len(run)} and {len(reference)}",
        "fewest": min(len(run), len(reference)),  # No column.
        "run_mean": means[0],
        "reference_mean": means[1],
        "difference": means[0] - means[1],
        "ratio": float(np.exp(found.estimate)) if scale == RATIO else float("nan"),
        "low": low,
        "high": high,
        "p": found.p,
    }


def _judged(row: dict[str, Any], p: float) -> dict[str, Any]:
    verdict = SAME
    if np.isnan(p) or row["fewest"] < FEWEST:
        verdict = UNKNOWN
    elif p < ALPHA:
        higher = row["ratio"] > 1 if row["scale"] == RATIO else row["difference"] > 0
        verdict = HIGHER if higher else LOWER
    return {**row, "p_adjusted": p, "verdict": verdict}


def told(row: Mapping[str, Any]) -> str:
    """A difference and its interval: ``+12 [3, 21]``, or ``x 0.8 [0.5, 1.3]`` of a ratio."""
    low, high = short(row["low"]), short(row["high"])
    if row["scale"] == RATIO:
        return f"x {short(row['ratio'])} [{low}, {high}]"
    return f"{short(row['difference'], '+')} [{low}, {high}]"


def short(x: float, sign: str = "") -> str:
    """Two digits, or all before the point; with a ``sign`` of ``+`` before those above 0 too."""
    return f"{x:{sign}.0f}" if abs(x) >= 99.5 else f"{x:{sign}.2g}"
