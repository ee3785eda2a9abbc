"""What of an experiment is held against other runs: one number per agent, along a curve."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple


class End(Enum):
    """The least or the greatest of a column's values, whichever that is in a table."""

    FIRST = "first"
    LAST = "last"


FIRST, LAST = End.FIRST, End.LAST


class Measure(NamedTuple):
    """A column of a table, averaged within every agent at each place of a curve."""

    label: str
    """In words, for a picture; ``{horizon}`` stands for the value that ``where`` chose."""
    column: str
    where: Mapping[str, Any] = MappingProxyType({})
    """Columns and the one value that they must have, which may be :data:`FIRST` or :data:`LAST`;
    over all other columns the mean is taken."""
    x: str = "step"
    """The column that a curve is drawn along: training steps, or anything else."""
    table: str = ""
    """Which of the experiment's tables; the main one by default."""
    ratio: bool = False
    """Whether runs differ by a factor: errors, which are never negative and heavy-tailed, are held
    against each other by the ratio of their geometric means over agents."""

    @property
    def through_training(self) -> bool:
        """Whether the curve goes along training steps."""
        return self.x == "step" or self.x.endswith("_step")
