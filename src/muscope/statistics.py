"""Statistics over agents, and the one reader of tidy tables.

The unit of replication is the agent: everything is averaged inside an agent first.  NaN in a
table means that nothing was observed, and is left out of every mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float
from numpy.typing import ArrayLike

Values = float | int | str | Sequence[float | int | str]
"""What a column must be: one value, or one of several."""


class Summary(NamedTuple):
    """Mean and standard error over agents."""

    mean: float
    standard_error: float
    """Sample standard deviation over sqrt(n); NaN for a single agent."""
    n: int
    """Agents that have a value."""


def over_agents(per_agent: ArrayLike) -> Summary:
    """Summarise one number per agent [P]; NaN is an agent without a value.

    Without any, mean and error are NaN.
    """
    numbers = np.asarray(per_agent, float)
    numbers = numbers[~np.isnan(numbers)]
    n = len(numbers)
    if not n:
        return Summary(float("nan"), float("nan"), 0)
    error = float(numbers.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Summary(float(numbers.mean()), error, n)


def values(table: pa.Table, column: str) -> list[Any]:
    """The different values of a column, sorted."""
    return sorted(pc.unique(table[column]).to_pylist())


def first(table: pa.Table, column: str) -> Any:
    """A column's value in the first row: a setting that all rows share."""
    return table[column][0].as_py()


def rows(table: pa.Table, /, **where: Values) -> pa.Table:
    """The rows in which every named column has the given value, or one of several."""
    for name, wanted in where.items():
        accepted = [wanted] if isinstance(wanted, int | float | str) else list(wanted)
        kind = table.schema.field(name).type
        table = table.filter(pc.field(name).isin(pa.array(accepted, kind)))
    return table


def means(
    table: pa.Table,
    column: str,
    agents: Sequence[int] | None = None,
    **axes: Sequence[Any],
) -> Float[np.ndarray, "P *axes"]:
    """Means of a column per agent and cell.

    Args:
        table: with an ``agent`` column.
        column: the values.
        agents: the agents wanted, in order; by default all in the table, ascending.
        axes: columns and the values of theirs to tell apart, in order.

    Returns:
        [P, *axes], NaN where an agent has no row, or nothing but NaN, in a cell.

    """
    agents = values(table, "agent") if agents is None else list(agents)
    table = rows(table, agent=agents, **axes)
    table = table.filter(pc.invert(pc.is_nan(pc.cast(table[column], pa.float64()))))
    keys = ["agent", *axes]
    grouped = table.group_by(keys).aggregate([(column, "mean")])
    places = [
        np.array(
            [{value: i for i, value in enumerate(wanted)}[x] for x in grouped[key].to_pylist()]
        )
        for key, wanted in zip(keys, [agents, *axes.values()], strict=True)
    ]
    cells = np.full([len(agents), *(len(wanted) for wanted in axes.values())], np.nan)
    if grouped.num_rows:
        cells[tuple(places)] = grouped[f"{column}_mean"].to_numpy()
    return cells


def summary(table: pa.Table, column: str, **where: Values) -> Summary:
    """Mean ± standard error over agents of a column, in the rows that ``where`` leaves."""
    return over_agents(means(rows(table, **where), column))


def curve(
    table: pa.Table, column: str, axis: str, **where: Values
) -> tuple[np.ndarray, list[Summary]]:
    """The values of ``axis``, ascending, and mean ± standard error over agents at each."""
    table = rows(table, **where)
    places = values(table, axis)
    per_agent = means(table, column, **{axis: places})
    return np.array(places), [over_agents(at) for at in per_agent.T]


def spearman(x: Float[np.ndarray, "*rows n"], y: Float[np.ndarray, "*rows n"]) -> np.ndarray:
    """Spearman's rank correlation along the last axis; ties share their mean rank.

    NaN where x or y is constant.
    """
    from scipy.stats import rankdata  # its import takes most of a second

    a, b = (rankdata(of, axis=-1) - (np.shape(of)[-1] + 1) / 2 for of in (x, y))
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1)))
