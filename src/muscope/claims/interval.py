"""From one number per agent to an interval and a p-value, and p-values corrected together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri, stdtr, stdtrit

ALPHA = 0.05
RESAMPLES = 100_000
FLOOR = 1 / RESAMPLES
"""No p-value is smaller."""
REACH = 0.002
"""Quantiles further out are not left to resampling alone: it cannot go beyond the agents' own
values, and few agents have too few different resamples."""
_AT_ONCE = 10_000


class Interval(NamedTuple):
    """A mean over agents with its confidence interval."""

    estimate: float
    low: float
    high: float
    p: float
    """Two-sided: the smallest alpha at which the interval of 1 - alpha leaves out 0."""


def interval(values: Float[np.ndarray, "P"], seed: int) -> Interval:
    """Mean over agents with a seeded 95 % bootstrap interval, and the p-value that belongs to it.

    The expanded percentile interval (Hesterberg, The American Statistician 69:371, 2015): the
    plain one is too narrow for few agents, so its quantiles are moved out to make up for the
    bootstrap's missing factor n / (n - 1) and for the normal instead of Student's t.  Where
    those quantiles lie beyond :data:`REACH` (at 95 % with fewer than six agents; at small alphas
    with any number), the wider of it and Student's t interval is taken.  NaN for a single agent.
    """
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean, *[float("nan")] * 3)
    means = np.sort(_resampled(values, seed))
    student = -stdtrit(n - 1, ALPHA / 2)
    tail = float(ndtr(-_expansion(n) * student))
    low, high = np.quantile(means, [tail, 1 - tail])
    if tail < REACH:
        reach = student * np.std(values, ddof=1) / np.sqrt(n)
        low, high = min(low, mean - reach), max(high, mean + reach)
    return Interval(mean, float(low), float(high), _p(values, means))


def _expansion(n: int) -> float:
    return float(np.sqrt(n / (n - 1)))


def _resampled(values: np.ndarray, seed: int) -> np.ndarray:
    """Means of resamples, drawn in parts that fit into memory."""
    rng, n = np.random.default_rng(seed), len(values)
    parts = [
        values[rng.integers(0, n, (_AT_ONCE, n))].mean(axis=1) for _ in range(RESAMPLES // _AT_ONCE)
    ]
    return np.concatenate(parts)


def _p(values: np.ndarray, means: np.ndarray) -> float:
    """The intervals of :func:`interval` inverted; ``means`` are sorted."""
    n, mean = len(values), float(np.mean(values))
    if mean == 0:
        return 1.0
    if mean < 0:
        values, means, mean = -values, -means[::-1], -mean
    by_resampling = _alpha_of(_share_below_zero(means), n)
    # Down to this alpha resampling decides alone; beyond it Student's interval must agree.
    alone = _alpha_of(REACH, n)
    if by_resampling >= alone:
        return min(by_resampling, 1.0)
    error = np.std(values, ddof=1) / np.sqrt(n)
    students = 2 * float(stdtr(n - 1, -mean / error)) if error > 0 else 0.0
    return max(by_resampling, min(students, alone), FLOOR)


def _alpha_of(tail: float, n: int) -> float:
    """At which alpha the expanded interval ends at this quantile of the resampled means."""
    return 2 * float(stdtr(n - 1, ndtri(tail) / _expansion(n)))


def _share_below_zero(means: np.ndarray) -> float:
    """The quantile at which sorted means cross 0, as :func:`numpy.quantile` interpolates."""
    above = int(np.searchsorted(means, 0.0, side="right"))
    if above in (0, len(means)):
        return float(above > 0)
    before, after = means[above - 1], means[above]
    return float((above - 1 - before / (after - before)) / (len(means) - 1))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """P-values corrected for their number (Holm, Scand. J. Statist. 6:65, 1979).

    With verdicts at a level of 5 %, any of a study's is then a false one in at most 5 % of studies.
    NaN is left as it is and does not count.
    """
    given = np.asarray(p, float)
    adjusted = np.full(len(given), np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
