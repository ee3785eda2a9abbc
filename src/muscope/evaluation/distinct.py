"""A policy asked once for states that are the same.

Sequences of actions that begin in one state and have the same actions behind them are in the same
state, because environments are deterministic.  A search there is the dear part of following a
policy, and a nearly greedy one keeps most sequences together.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from muscope.envs import State
from muscope.evaluation.play import Behaviour

LEAST = 64
"""Fewer searches at once are hardly faster."""
PARTS = 16
"""All states are asked in so many parts if no two are the same."""


def numbered(labels: Int[Array, "L"]) -> Int[Array, "L"]:
    """The same classes as ``labels`` has, numbered 0, 1, ..."""
    order = jnp.argsort(labels)
    ascending = labels[order]
    starts = jnp.concatenate([jnp.zeros(1, bool), ascending[1:] != ascending[:-1]])
    return jnp.zeros_like(labels).at[order].set(jnp.cumsum(starts).astype(labels.dtype))


def part_size(total: int) -> int:
    """How many of so many states are asked at once."""
    return min(total, max(LEAST, -(-total // PARTS)))


def ask_distinct(
    behaviour: Behaviour, states: State, classes: Int[Array, "L"], key: Key[Array, ""]
) -> Float[Array, "L A"]:
    """The policy's logits at all states, asked once in each class, a part of the classes at a time.

    Args:
        behaviour: the policy.
        states: pytree of [L, ...].
        classes: the number of each one's class, from 0 without gaps; all states of a class are
            the same.
        key: consumed.

    """
    total = classes.shape[0]
    size = part_size(total)
    count = jnp.max(classes) + 1
    member = jnp.zeros_like(classes).at[classes].set(jnp.arange(total, dtype=classes.dtype))

    def ask(part: Int[Array, ""]) -> Float[Array, "size A"]:
        # Beyond the last class the first one is asked again, for nobody.
        own = member.at[part * size + jnp.arange(size)].get(mode="fill", fill_value=0)
        there = jax.tree.map(lambda x: x[own], states)
        return behaviour(there, jax.random.fold_in(key, part))

    def step(carry):
        part, logits = carry
        rows = part * size + jnp.arange(size)
        return part + 1, logits.at[rows].set(ask(part), mode="drop")

    actions = jax.eval_shape(ask, jnp.int32(0)).shape[-1]
    begin = (jnp.int32(0), jnp.zeros((total, actions)))
    _, logits = jax.lax.while_loop(lambda carry: carry[0] * size < count, step, begin)
    return logits[classes]
