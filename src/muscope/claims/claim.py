"""What a claim is: one number per agent that is positive if the claim is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from muscope.claims.cells import Cells


class Claim(NamedTuple):
    """One statement that an examination can support or not; experiments own theirs."""

    name: str
    """Its number in the paper's order, with a letter where a sentence makes several statements."""
    text: str
    statistic: str
    """What is computed per agent, in words; the claim says that it is positive."""
    table: str
    """Which table it reads."""
    per_agent: Callable[[Cells], np.ndarray]
    """[P]"""
    environments: tuple[str, ...] = ()
    """Where the paper says so; empty for everywhere."""

    def is_about(self, environment: str) -> bool:
        """Whether the paper says this of an environment, or of every one."""
        return not self.environments or environment in self.environments

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands among the others: by number, then by letter; others come last."""
        digits = "".join(c for c in self.name if c.isdigit())
        return (int(digits) if digits else 10**6, self.name)
