"""The search of Equation 2, without inner loops.

A tree of N + 1 nodes is small enough to treat densely.  Every simulation scores *all*
nodes at once and finds the selected path with bit sets instead of descending it, and
the backup is one masked addition instead of a walk to the root:

* ``ancestors`` holds, per node, the set of its ancestors and itself;
* the children that their parents do not choose form another set; a node is on the
  selected path iff its ancestors do not meet that set;
* ``reward_to`` holds C[j], the discounted reward from the root to node j.  The return
  seen from any node i on the path to a leaf l of value v is
  (C[l] - C[i] + gamma^depth(l) v) / gamma^depth(i).

Layout.  Arrays are [nodes, lanes]: node-major, so that writing a node is one contiguous
row, and lanes last, so that every operation vectorises.  Actions (and the words of the
bit sets) are Python tuples of such planes: on CPU, reductions over a short axis cost
more than all the rest.  This is why ``search`` takes a batch of roots natively while
the parts it is given are written for one node.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from muscope.errors import ConfigError
from muscope.search.parts import Embedding, Parts

WORD = 32  # bits in one word of a node set


@dataclass(frozen=True)
class SearchConfig:
    """Settings of one search.  The discount comes from the environment's config."""

    simulations: int = 25
    """N, simulations per move."""
    c1: float = 1.25
    """c1 of Equation 2."""
    c2: float = 19652.0
    """c2 of Equation 2."""
    normalisation: Literal["tree", "siblings"] = "tree"
    """Q is scaled by the minimum and maximum of r + gamma V over all visited edges of the tree,
    or (mctx's muzero_policy) over one node's value and its visited children."""
    range_floor: float = 0.01
    """The least range that normalisation divides by, in units of value."""
    unvisited: Literal["parent", "minimum"] = "parent"
    """Q of an action never tried: the node's mean, or the least of the range (normalised 0)."""
    count_node: bool = False
    """Count a node's own evaluation as a visit in Equation 2's sum.  Without it, the first
    choice at a node, where all of Equation 2 ties, follows the prior."""
    root_value: Literal["network_and_search", "search"] = "network_and_search"
    """The root's value with or without the network's own estimate as one visit."""
    tie_noise: float = 1e-5
    """Priors are scaled by 1 + tie_noise * uniform(0, 1), which breaks equal scores at random."""
    max_depth: int = 0
    """Planning horizon H: nodes at this depth are not expanded, simulations that come back to
    one end there with its leaf value; 0 for none."""
    dirichlet_alpha: float = 0.3
    """Concentration of the root noise, in acting and Reanalyse; evaluation has none."""
    dirichlet_fraction: float = 0.25
    """Weight of the root noise, in acting and Reanalyse; evaluation has none."""

    def __post_init__(self) -> None:
        if self.simulations < 1:
            raise ConfigError("search.simulations must be at least 1.")
        if self.max_depth < 0:
            raise ConfigError("search.max_depth must not be negative.")
        if self.range_floor <= 0:
            raise ConfigError("search.range_floor must be positive.")
        if not 0 <= self.dirichlet_fraction <= 1 or self.dirichlet_alpha <= 0:
            raise ConfigError("search.dirichlet_fraction must lie in [0, 1] and alpha be > 0.")


class SearchResult(NamedTuple):
    """What a search found, one entry per lane."""

    visits: Float[Array, "lanes A"]
    """N(z^0, a); they sum to the number of simulations."""
    q: Float[Array, "lanes A"]
    """Mean return of each root action; 0 where it was never tried."""
    value: Float[Array, "lanes"]
    """v^MCTS of the root."""
    trace: Any = None
    """If the parts have a ``trace``: per simulation [N, lanes, ...], what it gave and the
    root's visit counts [N, lanes, A] so far."""


Plane = Float[Array, "nodes lanes"]
BitPlane = UInt32[Array, "nodes lanes"]


class _Tree(NamedTuple):
    """All nodes of all lanes.  A = actions, W = words of a node set."""

    visits: tuple[Plane, ...]  # [A] edge visit counts
    returns: tuple[Plane, ...]  # [A] sum of returns over those visits
    prior: tuple[Plane, ...]  # [A] probabilities
    children: tuple[tuple[BitPlane, ...], ...]  # [A][W] the child behind each edge, as a set
    ancestors: tuple[BitPlane, ...]  # [W] ancestors and self, as a set
    reward_to: Plane  # discounted reward from the root
    undiscount: Plane  # gamma^-depth
    value: Plane  # the leaf evaluator's estimate
    depth: Int[Array, "nodes lanes"]  # edges from the root; -1: there is no such node
    embedding: Embedding  # pytree of [nodes, lanes, ...]


def _total(planes: tuple[Array, ...] | list[Array]) -> Array:
    return functools.reduce(jnp.add, planes)


def _union(sets: list[Array]) -> Array:
    return functools.reduce(jnp.bitwise_or, sets)


def _bits(node: Int[Array, ""] | int, words: int) -> list[UInt32[Array, ""]]:
    """The set that holds ``node`` alone."""
    node = jnp.asarray(node, jnp.uint32)
    one = jnp.uint32(1) << (node % WORD)
    return [jnp.where(node // WORD == word, one, jnp.uint32(0)) for word in range(words)]


def _tie_factor(
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


def _scores(tree: _Tree, config: SearchConfig) -> list[Plane]:
    """Equation 2 for every action at every node."""
    q = [w / jnp.maximum(n, 1.0) for w, n in zip(tree.returns, tree.visits, strict=True)]
    tried = [n > 0 for n in tree.visits]
    children_visits = _total(tree.visits)
    node_value = (_total(tree.returns) + tree.value) / (children_visits + 1.0)
    if config.normalisation == "siblings":
        known = [jnp.where(t, x, node_value) for t, x in zip(tried, q, strict=True)]
        low = functools.reduce(jnp.minimum, [*known, node_value])
        high = functools.reduce(jnp.maximum, [*known, node_value])
    else:
        lows = [jnp.where(t, x, jnp.inf) for t, x in zip(tried, q, strict=True)]
        highs = [jnp.where(t, x, -jnp.inf) for t, x in zip(tried, q, strict=True)]
        low = jnp.min(functools.reduce(jnp.minimum, lows), axis=0)
        high = jnp.max(functools.reduce(jnp.maximum, highs), axis=0)
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
        for t, x, p, n in zip(tried, q, tree.prior, tree.visits, strict=True)
    ]


def _first_best(scores: list[Plane]) -> list[Bool[Array, "nodes lanes"]]:
    """Which action is the argmax, as one mask per action (the first of equal ones)."""
    best = scores[0]
    choice = jnp.zeros(best.shape, jnp.int32)
    for action, score in enumerate(scores[1:], start=1):
        better = score > best
        best = jnp.where(better, score, best)
        choice = jnp.where(better, action, choice)
    return [choice == action for action in range(len(scores))]


def _where(mask: Bool[Array, "lanes"], x: Array, y: Array) -> Array:
    """``jnp.where`` for arrays with lanes in front."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 1)), x, y)


def search(
    parts: Parts,
    roots: Embedding,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    root_prior: Float[Array, "lanes A"] | None = None,
    budget: Int[Array, ""] | None = None,
) -> SearchResult:
    """Run ``config.simulations`` simulations from every root at once.

    Args:
        parts: model, prior and leaf evaluator, each for one node.
        roots: pytree of [lanes, ...], the roots' embeddings.
        key: breaks ties and feeds the leaf evaluator; consumed.
        config: the search's settings.
        discount: gamma, the same at every step; a terminated true state is absorbing
            with reward 0, which needs no other discount.
        root_prior: probabilities to use at the roots instead of the prior's own, such as
            those with exploration noise.
        budget: stop after this many simulations, at most ``config.simulations``; an array, so
            that one compiled program serves every budget.  There is no trace then.

    Returns:
        Visit counts, mean returns and values of the roots.

    """
    lanes = jax.tree.leaves(roots)[0].shape[0]
    tie_key, root_key, leaf_key = jax.random.split(key, 3)
    seeds = jax.random.bits(tie_key, (lanes,), jnp.uint32)
    if root_prior is None:
        root_prior = jax.nn.softmax(jax.vmap(parts.prior)(roots))
    actions = root_prior.shape[-1]
    words = config.simulations // WORD + 1
    shift = max(1, (actions - 1).bit_length())
    lane = jnp.arange(lanes)

    def broken_ties(prior: Float[Array, "lanes A"], node: Int[Array, ""] | int) -> list[Array]:
        planes = [prior[:, action] for action in range(actions)]
        if not config.tie_noise:
            return planes
        return [
            plane * _tie_factor(seeds, node, action, config.tie_noise)
            for action, plane in enumerate(planes)
        ]

    def first_row(row: Array) -> Array:
        """An array for all nodes with the root's row written."""
        return jnp.zeros((config.simulations + 1, *row.shape), row.dtype).at[0].set(row)

    nothing = jnp.zeros((config.simulations + 1, lanes))
    no_set = nothing.astype(jnp.uint32)
    root_value = jax.vmap(parts.leaf)(
        roots, jnp.zeros((lanes,), jnp.int32), jax.random.split(root_key, lanes)
    )
    start = _Tree(
        visits=(nothing,) * actions,
        returns=(nothing,) * actions,
        prior=tuple(first_row(p) for p in broken_ties(root_prior, 0)),
        children=((no_set,) * words,) * actions,
        ancestors=tuple(first_row(jnp.full((lanes,), bit)) for bit in _bits(0, words)),
        reward_to=nothing,
        undiscount=first_row(jnp.ones((lanes,))),
        value=first_row(root_value),
        depth=first_row(jnp.zeros((lanes,), jnp.int32)),
        embedding=jax.tree.map(first_row, roots),
    )
    index = jax.lax.broadcasted_iota(jnp.int32, (config.simulations + 1, 1), 0)

    def simulate(tree: _Tree, new: Int[Array, ""]) -> tuple[_Tree, Any]:
        """One simulation; node ``new`` is the one it adds."""
        # Selection, at all nodes at once.
        chosen = _first_best(_scores(tree, config))
        rejected = [
            jax.lax.reduce(
                _union(
                    [
                        jnp.where(c, jnp.uint32(0), child[word])
                        for c, child in zip(chosen, tree.children, strict=True)
                    ]
                ),
                jnp.uint32(0),
                jax.lax.bitwise_or,
                (0,),
            )
            for word in range(words)
        ]
        off_path = _union([a & r for a, r in zip(tree.ancestors, rejected, strict=True)])
        on_path = (off_path == 0) & (index < new)
        if config.max_depth:
            on_path &= tree.depth >= 0
        # The leaf is the node on the path whose chosen edge has no child yet; there is one.
        code = functools.reduce(
            jnp.maximum,
            [
                jnp.where(on_path & c & (n == 0), (index << shift) | action, 0)
                for action, (c, n) in enumerate(zip(chosen, tree.visits, strict=True))
            ],
        ).max(axis=0)
        leaf, action = code >> shift, code & ((1 << shift) - 1)

        def at_leaf(plane: Array) -> Array:
            return plane.at[leaf, lane].get(mode="promise_in_bounds")

        # Expansion and evaluation.
        parent = jax.tree.map(at_leaf, tree.embedding)
        child, reward = jax.vmap(parts.step)(parent, action)
        depth = at_leaf(tree.depth) + 1
        prior = jax.nn.softmax(jax.vmap(parts.prior)(child))
        keys = jax.random.split(jax.random.fold_in(leaf_key, new), lanes)
        value = jax.vmap(parts.leaf)(child, depth, keys)

        # Backup, at all nodes at once.
        undiscount = at_leaf(tree.undiscount)
        reward_to = at_leaf(tree.reward_to) + reward / undiscount
        undiscount = undiscount / discount
        taken = [on_path & c for c in chosen]
        grown = [(index == leaf) & (action == a) for a in range(actions)]
        if config.max_depth:
            # A leaf at the horizon stays what it is, and its row stays empty.
            full = depth > config.max_depth
            reward_to = jnp.where(full, at_leaf(tree.reward_to), reward_to)
            undiscount = jnp.where(full, at_leaf(tree.undiscount), undiscount)
            value = jnp.where(full, at_leaf(tree.value), value)
            taken = [t & ~(full & (index == leaf)) for t in taken]
            grown = [g & ~full for g in grown]
            child = jax.tree.map(lambda new, old: _where(full, old, new), child, parent)
        returned = (reward_to + value / undiscount - tree.reward_to) * tree.undiscount
        bit = _bits(new, words)

        def write(plane: Array, row: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(plane, row[None], new, 0)

        trace = None
        if parts.trace is not None:
            kept = jnp.minimum(depth, config.max_depth) if config.max_depth else depth
            trace = jax.vmap(parts.trace)(child, kept, keys)
        if config.max_depth:
            depth = jnp.where(full, -1, depth)
        tree = _Tree(
            visits=tuple(n + t.astype(n.dtype) for n, t in zip(tree.visits, taken, strict=True)),
            returns=tuple(
                w + jnp.where(t, returned, 0.0) for w, t in zip(tree.returns, taken, strict=True)
            ),
            prior=tuple(map(write, tree.prior, broken_ties(prior, new))),
            children=tuple(
                tuple(
                    words_of[word] | jnp.where(g, bit[word], jnp.uint32(0)) for word in range(words)
                )
                for words_of, g in zip(tree.children, grown, strict=True)
            ),
            ancestors=tuple(
                write(plane, at_leaf(plane) | b)
                for plane, b in zip(tree.ancestors, bit, strict=True)
            ),
            reward_to=write(tree.reward_to, reward_to),
            undiscount=write(tree.undiscount, undiscount),
            value=write(tree.value, value),
            depth=write(tree.depth, depth),
            embedding=jax.tree.map(write, tree.embedding, child),
        )
        if trace is not None:
            trace = (trace, jnp.stack([n[0] for n in tree.visits], axis=-1))
        return tree, trace

    if budget is not None:
        tree = jax.lax.fori_loop(1, budget + 1, lambda new, tree: simulate(tree, new)[0], start)
        return _summary(tree, config, budget)
    tree, trace = jax.lax.scan(simulate, start, jnp.arange(1, config.simulations + 1))
    return _summary(tree, config, config.simulations)._replace(trace=trace)


def _summary(tree: _Tree, config: SearchConfig, simulations: Int[Array, ""] | int) -> SearchResult:
    visits = jnp.stack([n[0] for n in tree.visits], axis=-1)
    returns = jnp.stack([w[0] for w in tree.returns], axis=-1)
    extra: Any = tree.value[0] if config.root_value == "network_and_search" else 0.0
    count = simulations + (1 if config.root_value == "network_and_search" else 0)
    return SearchResult(
        visits=visits,
        q=returns / jnp.maximum(visits, 1.0),
        value=(returns.sum(axis=-1) + extra) / count,
    )
