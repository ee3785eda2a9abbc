"""Means of a table's cells per agent, complete or refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
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
        agents: P; every agent must have every cell that is asked for.
        steps: training steps of the whole run.

    """

    def __init__(self, name: str, table: pa.Table, agents: int, steps: int):
        self.name, self.table, self.agents, self.steps = name, table, agents, steps

    def values(self, column: str) -> list[Any]:
        """The different values of a column, sorted."""
        return sorted(set(self.table[column].to_pylist()))

    def positive(self, column: str = "step", least: int = 1) -> list[int]:
        """The values above 0 of a column, sorted: trained checkpoints, budgets of simulations.

        Raises:
            MissingCell: there are fewer than ``least``.

        """
        found = [value for value in self.values(column) if value > 0]
        if len(found) < least:
            raise MissingCell(
                f"{self.name} has {column} {found} above 0; this needs {least} values."
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
            MissingCell: an agent has no row, or nothing but NaN, in some cell.

        """
        table = statistics.rows(self.table, **(where or {}))
        keys = ["agent", *axes]
        columns = [table[key].to_pylist() for key in keys]
        sums: dict[tuple, list[float]] = {}
        for *key, value in zip(*columns, table[column].to_numpy(), strict=True):
            if not np.isnan(value):
                sums.setdefault(tuple(key), []).append(float(value))
        wanted: Iterable[tuple] = itertools.product(range(self.agents), *axes.values())
        found = []
        for cell in wanted:
            if cell not in sums:
                place = {**dict(zip(keys, cell, strict=True)), **(where or {})}
                named = ", ".join(f"{name} {value}" for name, value in place.items())
                raise MissingCell(f"{self.name} has no {column} for {named}.")
            found.append(np.mean(sums[cell]))
        return np.reshape(found, (self.agents, *(len(values) for values in axes.values())))
