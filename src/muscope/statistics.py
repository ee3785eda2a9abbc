"""Statistics over agents.  The unit of replication is the agent."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
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
        value: the observations, in any order, as many per agent as there are.

    """
    agent, value = np.asarray(agent), np.asarray(value, float)
    means = np.array([value[agent == a].mean() for a in np.unique(agent)])
    n = len(means)
    error = float(means.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Summary(float(means.mean()), error, n)
