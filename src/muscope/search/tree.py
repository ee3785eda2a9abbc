"""The tree of a search: planes and node sets while it grows, a record of it when it is done.

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
more than all the rest.  This is why a search takes a batch of roots natively while
the parts it is given are written for one node.

Row 0 is the root and row i the node that simulation i adds.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from muscope.room import nbytes
from muscope.search.parts import Embedding

WORD = 32  # bits in one word of a node set


Plane = Float[Array, "nodes lanes"]
IntPlane = Int[Array, "nodes lanes"]
Mask = Bool[Array, "nodes lanes"]
BitPlane = UInt32[Array, "nodes lanes"]


class Arrivals(NamedTuple):
    """The last edge that each row's simulation chose."""

    parent: IntPlane
    """The node it starts at."""
    action: IntPlane
    reward: Plane
    """What the model gave for it."""


class Planes(NamedTuple):
    """All nodes of all lanes of a growing tree.  A = actions, W = words of a node set."""

    visits: tuple[Plane, ...]
    """[A] N(z, a), edge visit counts."""
    returns: tuple[Plane, ...]
    """[A] Sum of returns over those visits."""
    prior: tuple[Plane, ...]
    """[A] Probabilities."""
    children: tuple[tuple[BitPlane, ...], ...]
    """[A][W] The child behind each edge, as a set of at most one."""
    ancestors: tuple[BitPlane, ...]
    """[W] Ancestors and self, as a set."""
    reward_to: Plane
    """Discounted reward from the root."""
    undiscount: Plane
    """gamma^-depth."""
    value: Plane
    """The leaf evaluator's estimate."""
    depth: IntPlane
    """Edges from the root; -1: there is no such node."""
    embedding: Embedding
    """Pytree of [nodes, lanes, ...]."""
    arrivals: Arrivals | None = None
    """Nothing in the search reads them; there if the finished tree is asked for."""


class Tree(NamedTuple):
    """A finished search, to be drawn or examined: one tree per lane, nodes = N + 1.

    Node 0 is the root and node i the one that simulation i added, so a parent comes before its
    children.  Rows that are no nodes have depth -1: those of simulations beyond the budget, and
    those of simulations that, under a horizon, ended at a node that was there already.  All
    else in such a row is 0 or -1, except ``ended_at``, and ``embedding``, which is undefined.
    One lane of it is ``jax.tree.map(lambda x: x[lane], tree)``.
    """

    parent: Int[Array, "lanes nodes"]
    """The node above; -1 at the root."""
    action: Int[Array, "lanes nodes"]
    """The parent's action that leads here; -1 at the root."""
    reward: Float[Array, "lanes nodes"]
    """What the model predicted for that edge; 0 at the root."""
    depth: Int[Array, "lanes nodes"]
    """Edges from the root; -1: this row is no node."""
    children: Int[Array, "lanes nodes A"]
    """The node behind each edge; -1: none."""
    visits: Float[Array, "lanes nodes A"]
    """N(z, a), how many simulations took each edge."""
    q: Float[Array, "lanes nodes A"]
    """Q(z, a), the mean return of each edge, seen from this node; 0 where it was never tried."""
    prior: Float[Array, "lanes nodes A"]
    """P(a | z) as Equation 2 saw it: with root noise, if there was any, and the tie noise."""
    value: Float[Array, "lanes nodes"]
    """The leaf evaluator's estimate of this node, made once, when it was added."""
    ended_at: Int[Array, "lanes nodes"]
    """The node at which simulation i ended, whose value it backed up: node i itself, or under a
    horizon one that was there already; 0 at the root and -1 beyond the budget."""
    embedding: Embedding
    """What the model knows of each node: pytree of [lanes, nodes, ...]."""


def total(planes: tuple[Array, ...] | list[Array]) -> Array:
    """Their sum."""
    return functools.reduce(jnp.add, planes)


def union(sets: list[Array]) -> Array:
    """One word of the union of node sets."""
    return functools.reduce(jnp.bitwise_or, sets)


def singleton(node: Int[Array, ""] | int, words: int) -> list[UInt32[Array, ""]]:
    """The set that holds ``node`` alone, as ``words`` words."""
    node = jnp.asarray(node, jnp.uint32)
    bit = jnp.uint32(1) << (node % WORD)
    return [jnp.where(node // WORD == word, bit, jnp.uint32(0)) for word in range(words)]


def only_member(node_set: tuple[BitPlane, ...]) -> IntPlane:
    """The node in a set of at most one; -1 if it is empty."""
    members = [
        jnp.where(bits == 0, -1, (word + 1) * WORD - 1 - jax.lax.clz(bits).astype(jnp.int32))
        for word, bits in enumerate(node_set)
    ]
    return functools.reduce(jnp.maximum, members)


def rows(nodes: int) -> Int[Array, "nodes 1"]:
    """Each row's own number."""
    return jax.lax.broadcasted_iota(jnp.int32, (nodes, 1), 0)


def at_nodes(plane: Array, node: Int[Array, "lanes"]) -> Array:
    """Each lane's entry at a node of its own: [nodes, lanes, ...] to [lanes, ...]."""
    lane = jnp.arange(node.shape[0])
    return plane.at[node, lane].get(mode="promise_in_bounds")


def at_root(planes: tuple[Plane, ...]) -> Float[Array, "lanes A"]:
    """The root's row, actions last."""
    return jnp.stack([plane[0] for plane in planes], axis=-1)


def only_root(
    roots: Embedding,
    prior: list[Float[Array, "lanes"]],
    value: Float[Array, "lanes"],
    simulations: int,
    keep_tree: bool,
) -> Planes:
    """The tree before the first simulation.

    Args:
        roots: pytree of [lanes, ...].
        prior: the roots' probabilities, one row per action.
        value: the leaf evaluator's estimate of the roots.
        simulations: N, how many nodes there must be room for besides.
        keep_tree: record what :func:`finished_tree` needs and the search does not.

    """
    lanes, actions, words = value.shape[0], len(prior), simulations // WORD + 1

    def first_row(row: Array) -> Array:
        """An array for all nodes with the root's row written."""
        return jnp.zeros((simulations + 1, *row.shape), row.dtype).at[0].set(row)

    zeros = jnp.zeros((simulations + 1, lanes))
    empty_set = zeros.astype(jnp.uint32)
    no_edge = jnp.full((simulations + 1, lanes), -1)
    return Planes(
        visits=(zeros,) * actions,
        returns=(zeros,) * actions,
        prior=tuple(first_row(row) for row in prior),
        children=((empty_set,) * words,) * actions,
        ancestors=tuple(first_row(jnp.full((lanes,), bits)) for bits in singleton(0, words)),
        reward_to=zeros,
        undiscount=first_row(jnp.ones((lanes,))),
        value=first_row(value),
        depth=first_row(jnp.zeros((lanes,), jnp.int32)),
        embedding=jax.tree.map(first_row, roots),
        arrivals=Arrivals(no_edge, no_edge, zeros) if keep_tree else None,
    )


def bytes_per_root(root: Embedding, actions: int, simulations: int) -> int:
    """Bytes of one root's tree.

    Args:
        root: the shapes and types of its embedding.
        actions: A.
        simulations: N.

    """
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), root)
    row = jax.ShapeDtypeStruct((1,), jnp.float32)
    planes = jax.eval_shape(
        lambda root, row: only_root(root, [row] * actions, row, simulations, False), one, row
    )
    return nbytes(planes)


def finished_tree(planes: Planes, simulations: Int[Array, ""] | int) -> Tree:
    """The record of a tree that grew with ``keep_tree``, after that many simulations."""
    assert planes.arrivals is not None
    row = rows(planes.depth.shape[0])
    is_node = (planes.depth >= 0) & (row <= simulations)
    is_child = is_node & (row > 0)
    parent, action, reward = planes.arrivals

    def lanes_first(plane: Array) -> Array:
        return jnp.swapaxes(plane, 0, 1)

    def per_action(planes: tuple[Array, ...] | list[Array]) -> Array:
        stacked = jnp.where(is_node[..., None], jnp.stack(planes, axis=-1), 0)
        return lanes_first(stacked)

    return Tree(
        parent=lanes_first(jnp.where(is_child, parent, -1)),
        action=lanes_first(jnp.where(is_child, action, -1)),
        reward=lanes_first(jnp.where(is_child, reward, 0.0)),
        depth=lanes_first(jnp.where(is_node, planes.depth, -1)),
        children=lanes_first(jnp.stack([only_member(edge) for edge in planes.children], axis=-1)),
        visits=per_action(planes.visits),
        q=per_action(mean_returns(planes)),
        prior=per_action(planes.prior),
        value=lanes_first(jnp.where(is_node, planes.value, 0.0)),
        ended_at=lanes_first(jnp.where(is_node, row, parent)),
        embedding=jax.tree.map(lanes_first, planes.embedding),
    )


def mean_returns(planes: Planes) -> list[Plane]:
    """[A] Q(z, a), 0 where the edge was never tried."""
    pairs = zip(planes.returns, planes.visits, strict=True)
    return [returns / jnp.maximum(visits, 1.0) for returns, visits in pairs]
