"""Means of a table's cells per agent, complete or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from muscope import statistics
from muscope.errors import RunError


class MissingCell(RunError):
    """A claim lacks some of its data; the message names which."""


class AtCeiling(RunError):
    """A claim compares policies that are all as good as any; nothing can be told from them."""


class Cells:
    """One table, read by cell: (agent, and any other columns).

    Args:
        name: the table's name, for messages.
        table: its rows.
        agents: those that have not diverged; each must have every cell that is asked for.
        steps: training steps of the whole run.

    """

    def __init__(self, name: str, table: pa.Table, agents: Sequence[int], steps: int):
        self.name, self.table, self.agents, self.steps = name, table, list(agents), steps

    def values(self, column: str) -> list[Any]:
        """The different values of a column, sorted."""
        return statistics.values(self.table, column)

    def positive(self, column: str = "step", least: int = 1, above: int = 0) -> list[int]:
        """The values above 0, or above another bound, of a column, sorted: trained checkpoints,
        budgets of simulations.

        Raises:
            MissingCell: there are fewer than ``least``.

        """
        found = [value for value in self.values(column) if value > above]
        if len(found) < least:
            values = f"{least} values" if least > 1 else "one"
            raise MissingCell(
                f"{self.name} has {column} {found} above {above}; this needs {values}."
            )
        return found

    def mean(
        self, column: str, where: Mapping[str, Any] | None = None, **axes: Sequence[Any]
    ) -> np.ndarray:
        """Means of ``column``, [P, *axes].

        Args:
            column: the values; NaN rows (nothing observed) do not enter a mean.
            where: columns that must have one value.
            axes: columns and the values of theirs to tell apart, in order.

        Raises:
            MissingCell: an agent has no row, or nothing but NaN, in some cell, or the table has no
                such column.

        """
        if column not in self.table.column_names:
            raise MissingCell(
                f"{self.name} has no column {column}: an older version made it; evaluating its "
                "figure anew adds the column."
            )
        table = statistics.rows(self.table, **(where or {}))
        cells = statistics.means(table, column, self.agents, **axes)
        empty = np.argwhere(np.isnan(cells))
        if len(empty):
            index, *places = empty[0]
            cell = {name: axes[name][i] for name, i in zip(axes, places, strict=True)}
            named = {"agent": self.agents[index], **cell, **(where or {})}
            words = ", ".join(f"{name} {value}" for name, value in named.items())
            raise MissingCell(f"{self.name} has no {column} for {words}.")
        return cells
