"""Settings of one search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from muscope.config.base import (
    HorizonOrNone,
    NonNegative,
    Positive,
    Settings,
    Share,
    Simulations,
)


@dataclass(frozen=True)
class SearchConfig(Settings):
    """Settings of one search.  The discount comes from the environment's config."""

    section = "search"

    simulations: Simulations = 25
    """N, simulations per move."""
    c1: NonNegative = 1.25
    """c1 of Equation 2."""
    c2: Positive = 19652.0
    """c2 of Equation 2."""
    normalisation: Literal["tree", "siblings"] = "tree"
    """Q is scaled by the minimum and maximum of r + gamma V over all visited edges of the tree,
    or (mctx's muzero_policy) over one node's value and its visited children."""
    range_floor: Positive = 0.01
    """The least range that normalisation divides by, in units of value."""
    unvisited: Literal["parent", "minimum"] = "parent"
    """Q of an action never tried: the node's mean, or the least of the range (normalised 0)."""
    count_node: bool = False
    """Count a node's own evaluation as a visit in Equation 2's sum.  Without it, the first
    choice at a node, where all of Equation 2 ties, follows the prior."""
    root_value: Literal["network_and_search", "search"] = "network_and_search"
    """The root's value with or without the network's own estimate as one visit."""
    tie_noise: Share = 1e-5
    """Priors are scaled by 1 + tie_noise * uniform(0, 1), which breaks equal scores at random."""
    max_depth: HorizonOrNone = 0
    """Planning horizon H: nodes at this depth are not expanded, simulations that come back to
    one end there with its leaf value; 0 for none."""
    dirichlet_alpha: Positive = 0.3
    """Concentration of the root noise, in acting and Reanalyse; evaluation has none."""
    dirichlet_fraction: Share = 0.25
    """Weight of the root noise, in acting and Reanalyse; evaluation has none."""
