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

    def positive(self, column: str = "step", least: int = 1) -> list[int]:
        """The values above 0 of a column, sorted: trained checkpoints, budgets of simulations.

        Raises:
            MissingCell: there are fewer than ``least``.

        """
        above = [value for value in self.values(column) if value > 0]
        if len(above) < least:
            raise MissingCell(
                f"{self.name} has {column} {above} above 0; this needs {least} values."
            )
        return above

    def mean(
        self, column: str, where: Mapping[str, Any] | None = None, **axes: Sequence[Any]
    ) -> np.ndarray:
        """Means of ``column``, [P, *axes].

        Args:
            column: the values; NaN rows (nothing observed) do not enter a mean.
            where: columns that must have one value.
            axes: columns and the values of theirs to tell apart, in order.

        Raises:
            MissingCell: an agent has no row, or nothing but NaN, in some cell.

        """
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
