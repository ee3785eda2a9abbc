"""Which comparisons of returns can tell anything: those that are not at the ceiling.

What is highest and lowest is read from the table, so nothing here knows an environment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from muscope import statistics
from muscope.claims.cells import AtCeiling, Cells
from muscope.claims.claim import Noted

NEAR = 0.05
"""As a share of the way from floor to ceiling: what is so near to the ceiling is at it."""
WORDS = (
    "mean over the checkpoints that are not at the ceiling (there every policy compared is within "
    f"{100 * NEAR:g} % of the way from the table's lowest to its highest mean return)"
)
"""For a claim's ``statistic``."""


def limits(cells: Cells, policies: Sequence[str]) -> tuple[float, float]:
    """The lowest and the highest mean return over agents, of any policy at any checkpoint.

    Args:
        cells: a table with a column ``return``.
        policies: the columns that tell policies apart.

    """
    axes = {name: cells.values(name) for name in ("step", *policies)}
    returns = statistics.means(cells.table, "return", cells.agents, **axes)
    there = ~np.isnan(returns)
    agents = there.sum(axis=0)
    total = np.where(there, returns, 0.0).sum(axis=0)
    means = total[agents > 0] / agents[agents > 0]
    return float(means.min()), float(means.max())


def below_ceiling(
    cells: Cells,
    steps: Sequence[int],
    policies: Sequence[str],
    difference: np.ndarray,
    *compared: np.ndarray,
) -> Noted:
    """The mean of a difference over the checkpoints that are not at the ceiling.

    Args:
        cells: a table with a column ``return``.
        steps: the checkpoints.
        policies: the columns that tell policies apart.
        difference: [P, steps], what the claim says to be positive.
        compared: returns [P, steps, ...] of all that the difference compares.

    Raises:
        AtCeiling: no checkpoint is left.

    """
    below = is_below(cells, policies, *compared)
    if not below.any():
        raise AtCeiling("at every checkpoint, all that is compared is at the ceiling")
    left_out = [f"{step:,}" for step, enters in zip(steps, below, strict=True) if not enters]
    note = f"at the ceiling and left out: checkpoint {', '.join(left_out)}" if left_out else ""
    return Noted(difference[:, below].mean(axis=1), note)


def is_below(cells: Cells, policies: Sequence[str], *compared: np.ndarray) -> np.ndarray:
    """Whether any of the policies compared is below the ceiling, [steps].

    Args:
        cells: the table.
        policies: the columns that tell policies apart.
        compared: returns [P, steps, ...], of one agent or more.

    """
    lowest, highest = limits(cells, policies)
    means = np.concatenate(
        [one.reshape(*one.shape[:2], -1).mean(axis=0) for one in compared], axis=1
    )
    return np.any(means < highest - NEAR * (highest - lowest), axis=1)
