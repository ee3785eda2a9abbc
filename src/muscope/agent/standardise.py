"""Observations as a network best sees them: every component centred and scaled.

In a game most pixels never change.  What matters, a ball of one pixel, is a fortieth of the
picture's contrast; behind layer normalisation, which divides by that contrast, value and reward
heads see next to no difference between states (docs/tuning.md).  The batch normalisation of the
original networks scales it up; here the same is done once, where the observation comes in.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FLOOR = 0.02  # least spread divided by
LIMIT = 10.0  # greatest magnitude that comes out, so also of what changes for the first time


class Standardise(eqx.Module):
    """(x - mean) / spread per component, measured before training and not trained.

    A network that holds one, at its entrance, has it measured by
    :meth:`muscope.training.agent.AgentProgram.initial`.
    """

    mean: Float[Array, "..."]
    spread: Float[Array, "..."]

    def __init__(self, shape: tuple[int, ...]):
        self.mean = jnp.zeros(shape)
        self.spread = jnp.ones(shape)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        mean, spread = jax.lax.stop_gradient((self.mean, self.spread))
        return jnp.clip((x - mean) / jnp.maximum(spread, FLOOR), -LIMIT, LIMIT)


def _is_standardise(x: Any) -> bool:
    return isinstance(x, Standardise)


def present(agent: Any) -> bool:
    """Whether a network holds a :class:`Standardise`."""
    return any(map(_is_standardise, jax.tree.leaves(agent, is_leaf=_is_standardise)))


def trained(agent: Any) -> Any:
    """A tree of the same shape (or a prefix of it): whether training may change a part."""
    return jax.tree.map(lambda x: not _is_standardise(x), agent, is_leaf=_is_standardise)


def measured(agent: Any, mean: Float[Array, "..."], spread: Float[Array, "..."]) -> Any:
    """The network with its :class:`Standardise` set."""

    def replaced(x):
        return (
            eqx.tree_at(lambda s: (s.mean, s.spread), x, (mean, spread))
            if _is_standardise(x)
            else x
        )

    return jax.tree.map(replaced, agent, is_leaf=_is_standardise)


def copied(source: Any, target: Any) -> Any:
    """``target`` with the :class:`Standardise` of ``source``, another network of its kind."""
    return jax.tree.map(
        lambda s, t: s if _is_standardise(s) else t, source, target, is_leaf=_is_standardise
    )
