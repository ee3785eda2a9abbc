"""The three parts a search is made of: a model, a prior and a leaf evaluator.

Each is a function of one node's embedding, so any combination can be searched: the
learned model with its own prior and value (MuZero), the true model with the learned
prior, random rollouts at the leaves, and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int, Key

from muscope.agent.base import Agent

Embedding = Any
"""What a node of the tree carries: a latent state, or an environment's state."""

Step = Callable[[Embedding, Int[Array, ""]], tuple[Embedding, Float[Array, ""]]]
Prior = Callable[[Embedding], Float[Array, "A"]]
Leaf = Callable[[Embedding, Int[Array, ""], Key[Array, ""]], Float[Array, ""]]
Trace = Callable[[Embedding, Int[Array, ""], Key[Array, ""]], Any]


class Parts(NamedTuple):
    """What :func:`muscope.search.search` plans with."""

    step: Step
    """The model: (node, action) -> (child, reward).  Deterministic."""
    prior: Prior
    """Logits of the policy that guides the search, at a node."""
    leaf: Leaf
    """The value of a new node at a depth; the key is for evaluators that sample."""
    trace: Trace | None = None
    """What to keep of every simulation, from its last node, that node's depth and the leaf
    evaluator's key: any pytree."""


def learned_parts(agent: Agent) -> Parts:
    """MuZero's own search: g as the model, f for the prior and the leaves."""
    return Parts(
        step=agent.step,
        prior=lambda z: agent.predict(z).policy_logits,
        leaf=lambda z, depth, key: agent.predict(z).value,
    )


def mix_root_noise(
    prior: Float[Array, "*lanes A"], noise: Float[Array, "*lanes A"], fraction: float
) -> Float[Array, "*lanes A"]:
    """Root probabilities with Dirichlet noise mixed in, for making training data and targets."""
    return (1.0 - fraction) * prior + fraction * noise
