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
    means = np.sort(_resampled(np.random.default_rng(seed), values))
    error = float(np.std(values, ddof=1) / np.sqrt(n))
    return _bounded(mean, means, _Spread(error, n - 1, float(np.sqrt(n / (n - 1)))))


def difference(
    first: Float[np.ndarray, "P"], second: Float[np.ndarray, "Q"], seed: int
) -> Interval:
    """The mean of ``first`` less that of ``second``, of agents that have nothing to do with each
    other, with an interval and a p-value as :func:`interval` gives them.

    Each is resampled by itself, and Welch's t takes the place of Student's (Welch, Biometrika
    34:28, 1947).  NaN where either is a single agent.
    """
    mean = float(np.mean(first) - np.mean(second))
    sizes = np.array([len(first), len(second)])
    if sizes.min() < 2:
        return Interval(mean, *[float("nan")] * 3)
    rng = np.random.default_rng(seed)
    means = np.sort(_resampled(rng, first) - _resampled(rng, second))
    squares = np.array([np.var(first, ddof=1), np.var(second, ddof=1)]) / sizes
    total = squares.sum()
    if total == 0.0:
        return _bounded(mean, means, _Spread(0.0, float(sizes.sum() - 2), 1.0))
    freedom = total**2 / (squares**2 / (sizes - 1)).sum()
    resampled = (squares * (sizes - 1) / sizes).sum()
    return _bounded(
        mean,
        means,
        _Spread(float(np.sqrt(total)), float(freedom), float(np.sqrt(total / resampled))),
    )


class _Spread(NamedTuple):
    """How far the mean of a sample, or a difference of means, may be from the truth."""

    error: float
    """Its standard error."""
    freedom: float
    """Degrees of freedom of Student's t for it."""
    expansion: float
    """That error as a multiple of the resampled means' standard deviation."""


def _bounded(mean: float, means: np.ndarray, spread: _Spread) -> Interval:
    """The expanded percentile interval around a mean; ``means`` are resampled, and sorted."""
    student = -stdtrit(spread.freedom, ALPHA / 2)
    tail = float(ndtr(-spread.expansion * student))
    low, high = np.quantile(means, [tail, 1 - tail])
    if tail < REACH:
        reach = student * spread.error
        low, high = min(low, mean - reach), max(high, mean + reach)
    return Interval(mean, float(low), float(high), _p(mean, means, spread))


def _resampled(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """Means of resamples, drawn in parts that fit into memory."""
    n = len(values)
    parts = [
        values[rng.integers(0, n, (_AT_ONCE, n))].mean(axis=1) for _ in range(RESAMPLES // _AT_ONCE)
    ]
    return np.concatenate(parts)


def _p(mean: float, means: np.ndarray, spread: _Spread) -> float:
    """The intervals of :func:`_bounded` inverted; ``means`` are sorted."""
    if mean == 0:
        return 1.0
    if mean < 0:
        means, mean = -means[::-1], -mean
    by_resampling = _alpha_of(_share_below_zero(means), spread)
    # Down to this alpha resampling decides alone; beyond it Student's interval must agree.
    alone = _alpha_of(REACH, spread)
    if by_resampling >= alone:
        return min(by_resampling, 1.0)
    student = -mean / spread.error if spread.error > 0 else -np.inf
    return max(by_resampling, min(2 * float(stdtr(spread.freedom, student)), alone), FLOOR)


def _alpha_of(tail: float, spread: _Spread) -> float:
    """At which alpha the expanded interval ends at this quantile of the resampled means."""
    return 2 * float(stdtr(spread.freedom, ndtri(tail) / spread.expansion))


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
