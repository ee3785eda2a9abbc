"""Statistics over agents.  The unit of replication is the agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float
from numpy.typing import ArrayLike


class Summary(NamedTuple):
    """Mean and standard error over agents."""

    mean: float
    standard_error: float
    """Sample standard deviation over sqrt(n); NaN for a single agent."""
    n: int


def over_agents(agent: ArrayLike, value: ArrayLike) -> Summary:
    """Average within each agent first, then summarise the agents' means.

    Args:
        agent: the agent of each observation.
        value: the observations, in any order, as many per agent as there are; without any,
            mean and error are NaN.

    """
    agent, value = np.asarray(agent), np.asarray(value, float)
    if not len(agent):
        return Summary(float("nan"), float("nan"), 0)
    means = np.array([value[agent == a].mean() for a in np.unique(agent)])
    n = len(means)
    error = float(means.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Summary(float(means.mean()), error, n)


def rows(table: pa.Table, **where: int | str | Sequence[int | str]) -> pa.Table:
    """The rows in which every named column has the given value, or one of several."""
    for name, wanted in where.items():
        values = [wanted] if isinstance(wanted, int | str) else list(wanted)
        kind = table.schema.field(name).type
        table = table.filter(pc.field(name).isin(pa.array(values, kind)))
    return table


def select(
    table: pa.Table, column: str, **where: int | str | Sequence[int | str]
) -> tuple[np.ndarray, np.ndarray]:
    """Agents and values of a column, for :func:`over_agents`.

    Args:
        table: with an ``agent`` column.
        column: the values; NaN (nothing was observed) is left out.
        where: as in :func:`rows`.

    """
    table = rows(table, **where)
    agent, value = table["agent"].to_numpy(), table[column].to_numpy()
    seen = ~np.isnan(value)
    return agent[seen], value[seen]


def by(
    table: pa.Table, column: str, axis: str, **where: int | str
) -> tuple[np.ndarray, list[Summary]]:
    """Mean ± standard error over agents at every value of ``axis``, ascending; NaN left out."""
    table = rows(table, **where)
    places, index = np.unique(table[axis].to_numpy(), return_inverse=True)
    agent, value = table["agent"].to_numpy(), table[column].to_numpy()
    order = np.argsort(index, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(index))[:-1])
    seen = [group[~np.isnan(value[group])] for group in groups]
    return places, [over_agents(agent[group], value[group]) for group in seen]


def by_step(table: pa.Table, column: str, **where: int | str) -> list[Summary]:
    """:func:`by` along the training steps."""
    return by(table, column, "step", **where)[1]


def spearman(x: Float[np.ndarray, "*rows n"], y: Float[np.ndarray, "*rows n"]) -> np.ndarray:
    """Spearman's rank correlation along the last axis; ties share their mean rank.

    NaN where x or y is constant.
    """
    from scipy.stats import rankdata  # its import takes most of a second

    a, b = (rankdata(values, axis=-1) - (np.shape(values)[-1] + 1) / 2 for values in (x, y))
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1)))
