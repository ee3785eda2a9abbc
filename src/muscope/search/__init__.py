"""Monte Carlo tree search with exchangeable model, prior and leaf evaluator."""

from muscope.search.parts import Parts, learned_parts, mix_root_noise
from muscope.search.policy import behaviour_logits, sample_action, temperature_at
from muscope.search.simulation import SearchResult, search
from muscope.search.tree import Tree

__all__ = [
    "Parts",
    "SearchResult",
    "Tree",
    "behaviour_logits",
    "learned_parts",
    "mix_root_noise",
    "sample_action",
    "search",
    "temperature_at",
]
