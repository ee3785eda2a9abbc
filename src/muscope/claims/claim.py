"""What a claim is: one number per agent that is positive if the claim is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from muscope.claims.cells import Cells

PAPERS = ("cart-pole", "lunar-lander", "breakout")
"""The paper's environments; of every other one it says nothing."""


class Noted(NamedTuple):
    """Numbers that a reader should not see without a word beside them."""

    values: np.ndarray
    """[P]"""
    note: str
    """May be empty."""


class Claim(NamedTuple):
    """One statement that an examination can support or not; experiments own theirs."""

    name: str
    """Its number in the paper's order, with a letter where a sentence makes several statements."""
    text: str
    statistic: str
    """What is computed per agent, in words; the claim says that it is positive."""
    table: str
    """Which table it reads."""
    per_agent: Callable[[Cells], np.ndarray | Noted]
    """[P]"""
    environments: tuple[str, ...] = ()
    """Where the paper says so; empty for everywhere."""
    elsewhere: bool = False
    """Whether it is the general form too, asked of every environment that the paper does not have.
    Without ``environments`` it is asked everywhere anyway."""
    former: bool = False
    """Whether it is a former reading, shown beside the one that took its place: it has a verdict of
    its own, and is not counted when verdicts are corrected for their number."""

    def is_about(self, environment: str) -> bool:
        """Whether it is asked of an environment."""
        if not self.environments or environment in self.environments:
            return True
        return self.elsewhere and environment not in PAPERS

    @property
    def label(self) -> str:
        """Its name, and whether it is a former reading."""
        return f"{self.name} former" if self.former else self.name

    @property
    def place(self) -> tuple[int, str, bool]:
        """Where it stands among the others: by number, then by letter, former readings after
        current ones; others come last.
        """
        digits = "".join(c for c in self.name if c.isdigit())
        return (int(digits) if digits else 10**6, self.name, self.former)
