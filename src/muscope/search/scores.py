"""Equation 2: the score of every action at every node, and the best of them."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from muscope.config import SearchConfig
from muscope.search.tree import Mask, Plane, Planes, mean_returns, total


def scores(planes: Planes, config: SearchConfig) -> list[Plane]:
    """[A] Equation 2 for every action at every node.

    normalised Q(z, a) + P(a | z) sqrt(n) / (1 + N(z, a)) (c1 + log((n + c2 + 1) / c2))
    with n = sum over b of N(z, b), and one more if ``config.count_node``.
    """
    q = mean_returns(planes)
    tried = [visits > 0 for visits in planes.visits]
    children_visits = total(planes.visits)
    node_value = (total(planes.returns) + planes.value) / (children_visits + 1.0)
    low, high = value_range(q, tried, node_value, config)
    scale = 1.0 / jnp.maximum(high - low, config.range_floor)
    if config.unvisited == "minimum":
        unknown = jnp.zeros_like(node_value)
    else:
        unknown = jnp.clip((node_value - low) * scale, 0.0, 1.0)

    node_visits = children_visits + 1.0 if config.count_node else children_visits
    exploration = config.c1 + jnp.log((node_visits + config.c2 + 1.0) / config.c2)
    exploration *= jnp.sqrt(jnp.maximum(node_visits, 1.0))
    return [
        jnp.where(t, (x - low) * scale, unknown) + p * exploration / (1.0 + n)
        for t, x, p, n in zip(tried, q, planes.prior, planes.visits, strict=True)
    ]


def value_range(
    q: list[Plane], tried: list[Mask], node_value: Plane, config: SearchConfig
) -> tuple[Array, Array]:
    """The least and the greatest Q by which Q is normalised.

    Args:
        q: [A] mean returns.
        tried: [A] which of them are known.
        node_value: each node's mean return, its own evaluation included.
        config: says whose Q count.

    Returns:
        [lanes] over the whole tree, infinite before the first visit, or [nodes, lanes] over a
        node and its children.

    """
    if config.normalisation == "siblings":
        known = [jnp.where(t, x, node_value) for t, x in zip(tried, q, strict=True)]
        low = functools.reduce(jnp.minimum, [*known, node_value])
        high = functools.reduce(jnp.maximum, [*known, node_value])
        return low, high
    lows = [jnp.where(t, x, jnp.inf) for t, x in zip(tried, q, strict=True)]
    highs = [jnp.where(t, x, -jnp.inf) for t, x in zip(tried, q, strict=True)]
    low = jnp.min(functools.reduce(jnp.minimum, lows), axis=0)
    high = jnp.max(functools.reduce(jnp.maximum, highs), axis=0)
    return low, high


def first_best(scores: list[Plane]) -> list[Mask]:
    """Which action is the argmax, as one mask per action (the first of equal ones)."""
    best = scores[0]
    choice = jnp.zeros(best.shape, jnp.int32)
    for action, score in enumerate(scores[1:], start=1):
        better = score > best
        best = jnp.where(better, score, best)
        choice = jnp.where(better, action, choice)
    return [choice == action for action in range(len(scores))]


def break_ties(
    prior: Float[Array, "lanes A"],
    seeds: UInt32[Array, "lanes"],
    node: Int[Array, ""] | int,
    noise: float,
) -> list[Float[Array, "lanes"]]:
    """A node's prior, one row per action, each scaled by its own 1 + noise * uniform(0, 1).

    Args:
        prior: probabilities.
        seeds: one per lane, the same at every node.
        node: the node whose prior it is.
        noise: ``SearchConfig.tie_noise``; 0 leaves the prior as it is.

    """
    by_action = [prior[:, action] for action in range(prior.shape[1])]
    if not noise:
        return by_action
    return [row * tie_factor(seeds, node, action, noise) for action, row in enumerate(by_action)]


def tie_factor(
    seeds: UInt32[Array, "lanes"], node: Int[Array, ""] | int, action: int, noise: float
) -> Float[Array, "lanes"]:
    """1 + noise * u with u uniform in [0, 1), hashed from lane, node and action.

    A hash (the finaliser of MurmurHash3) because drawing threefry numbers for every edge
    costs as much as the rest of the search.
    """
    x = seeds ^ (jnp.asarray(node, jnp.uint32) * jnp.uint32(0x9E3779B9) + jnp.uint32(action))
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    x = x ^ (x >> 16)
    return 1.0 + noise * ((x >> 8).astype(jnp.float32) / 2.0**24)
