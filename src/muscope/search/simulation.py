"""The search of Equation 2: N simulations, each of which selects, expands and backs up.

None of the three has an inner loop; the top of :mod:`muscope.search.tree` says how.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from muscope import display
from muscope.config import SearchConfig
from muscope.search.parts import Embedding, Parts
from muscope.search.scores import break_ties, first_best, scores
from muscope.search.tree import (
    Arrivals,
    Mask,
    Planes,
    Tree,
    at_nodes,
    at_root,
    finished_tree,
    only_root,
    rows,
    singleton,
    union,
)


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
    tree: Tree | None = None
    """The whole tree, if ``keep_tree`` asked for it."""

    def _repr_html_(self) -> str:
        """Actions by visits, of one root as :meth:`muscope.TrainedAgent.search` gives it."""
        if np.ndim(self.visits) != 1:
            shapes = [[name, np.shape(getattr(self, name))] for name in ("visits", "q", "value")]
            return display.table("searches", ["", "shape"], shapes)
        visits, q = np.asarray(self.visits), np.asarray(self.q)
        rows = [[a, int(visits[a]), float(q[a])] for a in np.argsort(-visits, kind="stable")]
        title = f"search: value {float(self.value):.4g}, {int(visits.sum())} simulations"
        return display.table(title, ["action", "visits", "mean return"], rows)


class Selection(NamedTuple):
    """The way one simulation takes down the tree, in every lane."""

    path: tuple[Mask, ...]
    """[A] Its edges; the last one has no child yet."""
    leaf: Int[Array, "lanes"]
    """The node at which that last edge starts."""
    action: Int[Array, "lanes"]
    """That last edge's action."""


class Expansion(NamedTuple):
    """What a simulation ends at: a new node, or under a horizon the leaf as it was."""

    embedding: Embedding
    """Pytree of [lanes, ...]."""
    prior: list[Float[Array, "lanes"]]
    """[A] Its probabilities, ties broken."""
    value: Float[Array, "lanes"]
    """The leaf evaluator's estimate."""
    depth: Int[Array, "lanes"]
    """Edges from the root, the selected one included: the horizon + 1 where nothing is added."""
    reward: Float[Array, "lanes"]
    """What the model gave for the selected edge."""
    reward_to: Float[Array, "lanes"]
    """Discounted reward from the root."""
    undiscount: Float[Array, "lanes"]
    """gamma^-depth."""
    keys: Key[Array, "lanes"]
    """What the leaf evaluator was given."""
    at_horizon: Bool[Array, "lanes"] | None
    """Where nothing is added because the leaf is as deep as the horizon; None without one."""


def search(
    parts: Parts,
    roots: Embedding,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    root_prior: Float[Array, "lanes A"] | None = None,
    budget: Int[Array, ""] | None = None,
    keep_tree: bool = False,
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
        keep_tree: return the finished tree too; static.  It changes nothing in the search.

    Returns:
        Visit counts, mean returns and values of the roots; the tree if ``keep_tree``.

    """
    lanes = jax.tree.leaves(roots)[0].shape[0]
    tie_key, root_key, leaf_key = jax.random.split(key, 3)
    seeds = jax.random.bits(tie_key, (lanes,), jnp.uint32)
    if root_prior is None:
        root_prior = jax.nn.softmax(jax.vmap(parts.prior)(roots))
    prior = break_ties(root_prior, seeds, 0, config.tie_noise)
    value = jax.vmap(parts.leaf)(
        roots, jnp.zeros((lanes,), jnp.int32), jax.random.split(root_key, lanes)
    )
    planes = only_root(roots, prior, value, config.simulations, keep_tree)

    simulate_one = functools.partial(
        simulate, parts=parts, config=config, discount=discount, seeds=seeds, leaf_key=leaf_key
    )
    trace = None
    if budget is None:
        planes, trace = jax.lax.scan(simulate_one, planes, jnp.arange(1, config.simulations + 1))
    else:
        planes = jax.lax.fori_loop(
            1, budget + 1, lambda new, planes: simulate_one(planes, new)[0], planes
        )
    simulations = config.simulations if budget is None else budget
    tree = finished_tree(planes, simulations) if keep_tree else None
    return summary(planes, config, simulations)._replace(trace=trace, tree=tree)


def simulate(
    planes: Planes,
    new: Int[Array, ""],
    *,
    parts: Parts,
    config: SearchConfig,
    discount: float,
    seeds: UInt32[Array, "lanes"],
    leaf_key: Key[Array, ""],
) -> tuple[Planes, Any]:
    """One simulation in every lane.

    Args:
        planes: the tree so far, nodes 0 to ``new`` - 1.
        new: the node it adds.
        parts: model, prior and leaf evaluator, each for one node.
        config: the search's settings.
        discount: gamma.
        seeds: break ties.
        leaf_key: feeds the leaf evaluator; the same for all simulations.

    Returns:
        The tree with node ``new``, and what ``parts.trace`` keeps of the simulation with the
        root's visit counts [lanes, A] after it; None if it keeps nothing.

    """
    selection = select(planes, new, config)
    expansion = expand(planes, selection, new, parts, config, discount, seeds, leaf_key)
    planes = backup(planes, selection, expansion, new)
    if parts.trace is None:
        return planes, None
    depth = expansion.depth
    if config.max_depth:
        depth = jnp.minimum(depth, config.max_depth)
    kept = jax.vmap(parts.trace)(expansion.embedding, depth, expansion.keys)
    return planes, (kept, at_root(planes.visits))


def select(planes: Planes, new: Int[Array, ""], config: SearchConfig) -> Selection:
    """Find the path that follows Equation 2 down to an edge without a child, at all nodes at once.

    Args:
        planes: the tree so far, nodes 0 to ``new`` - 1.
        new: how many nodes there are.
        config: the search's settings.

    """
    actions, row = len(planes.visits), rows(planes.depth.shape[0])
    chosen = first_best(scores(planes, config))
    rejected = [
        jax.lax.reduce(
            union(
                [
                    jnp.where(is_chosen, jnp.uint32(0), child[word])
                    for is_chosen, child in zip(chosen, planes.children, strict=True)
                ]
            ),
            jnp.uint32(0),
            jax.lax.bitwise_or,
            (0,),
        )
        for word in range(len(planes.ancestors))
    ]
    off_path = union([above & cut for above, cut in zip(planes.ancestors, rejected, strict=True)])
    on_path = (off_path == 0) & (row < new)
    if config.max_depth:
        on_path &= planes.depth >= 0
    path = tuple(on_path & is_chosen for is_chosen in chosen)
    # The path's last edge is the one that was never taken; there is one in every lane.
    shift = max(1, (actions - 1).bit_length())
    code = functools.reduce(
        jnp.maximum,
        [
            jnp.where(taken & (visits == 0), (row << shift) | action, 0)
            for action, (taken, visits) in enumerate(zip(path, planes.visits, strict=True))
        ],
    ).max(axis=0)
    return Selection(path, leaf=code >> shift, action=code & ((1 << shift) - 1))


def expand(
    planes: Planes,
    selection: Selection,
    new: Int[Array, ""],
    parts: Parts,
    config: SearchConfig,
    discount: float,
    seeds: UInt32[Array, "lanes"],
    leaf_key: Key[Array, ""],
) -> Expansion:
    """Step the model along the path's last edge and evaluate where it leads.

    Args:
        planes: the tree so far, nodes 0 to ``new`` - 1.
        selection: the path.
        new: the node it adds.
        parts: model, prior and leaf evaluator, each for one node.
        config: the search's settings.
        discount: gamma.
        seeds: break ties.
        leaf_key: feeds the leaf evaluator; the same for all simulations.

    """
    leaf, lanes = selection.leaf, selection.leaf.shape[0]
    parent = jax.tree.map(lambda plane: at_nodes(plane, leaf), planes.embedding)
    child, reward = jax.vmap(parts.step)(parent, selection.action)
    depth = at_nodes(planes.depth, leaf) + 1
    prior = jax.nn.softmax(jax.vmap(parts.prior)(child))
    keys = jax.random.split(jax.random.fold_in(leaf_key, new), lanes)
    undiscount = at_nodes(planes.undiscount, leaf)
    expansion = Expansion(
        embedding=child,
        prior=break_ties(prior, seeds, new, config.tie_noise),
        value=jax.vmap(parts.leaf)(child, depth, keys),
        depth=depth,
        reward=reward,
        reward_to=at_nodes(planes.reward_to, leaf) + reward / undiscount,
        undiscount=undiscount / discount,
        keys=keys,
        at_horizon=None,
    )
    if not config.max_depth:
        return expansion
    return end_at_horizon(expansion, planes, leaf, parent, config.max_depth)


def end_at_horizon(
    expansion: Expansion,
    planes: Planes,
    leaf: Int[Array, "lanes"],
    parent: Embedding,
    max_depth: int,
) -> Expansion:
    """Where the leaf is at the horizon, the leaf itself instead of a node below it.

    Args:
        expansion: the node below the leaf.
        planes: the tree so far.
        leaf: the selected leaf.
        parent: the leaf's embedding, pytree of [lanes, ...].
        max_depth: the horizon.

    """
    full = expansion.depth > max_depth

    def unless_full(of_child: Array, of_leaf: Array) -> Array:
        mask = full.reshape(full.shape + (1,) * (of_child.ndim - 1))
        return jnp.where(mask, of_leaf, of_child)

    return expansion._replace(
        embedding=jax.tree.map(unless_full, expansion.embedding, parent),
        value=unless_full(expansion.value, at_nodes(planes.value, leaf)),
        reward_to=unless_full(expansion.reward_to, at_nodes(planes.reward_to, leaf)),
        undiscount=unless_full(expansion.undiscount, at_nodes(planes.undiscount, leaf)),
        at_horizon=full,
    )


def backup(
    planes: Planes, selection: Selection, expansion: Expansion, new: Int[Array, ""]
) -> Planes:
    """Add the simulation's return to every edge of its path, and write the new node.

    Args:
        planes: the tree so far, nodes 0 to ``new`` - 1.
        selection: the path.
        expansion: what it ends at.
        new: the node to write.

    """
    is_leaf = rows(planes.depth.shape[0]) == selection.leaf
    taken = selection.path
    grown = tuple(is_leaf & (selection.action == a) for a in range(len(taken)))
    depth = expansion.depth
    if expansion.at_horizon is not None:
        # A leaf at the horizon stays what it is, and its row stays empty.
        full = expansion.at_horizon
        taken = tuple(edge & ~(full & is_leaf) for edge in taken)
        grown = tuple(edge & ~full for edge in grown)
        depth = jnp.where(full, -1, depth)
    to_leaf = expansion.reward_to + expansion.value / expansion.undiscount
    returned = (to_leaf - planes.reward_to) * planes.undiscount
    itself = singleton(new, len(planes.ancestors))

    def write(plane: Array, row: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(plane, row[None], new, 0)

    def add_child(node_sets: tuple[Array, ...], edge: Array) -> tuple[Array, ...]:
        pairs = zip(node_sets, itself, strict=True)
        return tuple(word | jnp.where(edge, bit, jnp.uint32(0)) for word, bit in pairs)

    arrival = Arrivals(selection.leaf, selection.action, expansion.reward)
    return Planes(
        visits=tuple(n + t.astype(n.dtype) for n, t in zip(planes.visits, taken, strict=True)),
        returns=tuple(
            w + jnp.where(t, returned, 0.0) for w, t in zip(planes.returns, taken, strict=True)
        ),
        prior=tuple(map(write, planes.prior, expansion.prior)),
        children=tuple(map(add_child, planes.children, grown)),
        ancestors=tuple(
            write(plane, at_nodes(plane, selection.leaf) | bit)
            for plane, bit in zip(planes.ancestors, itself, strict=True)
        ),
        reward_to=write(planes.reward_to, expansion.reward_to),
        undiscount=write(planes.undiscount, expansion.undiscount),
        value=write(planes.value, expansion.value),
        depth=write(planes.depth, depth),
        embedding=jax.tree.map(write, planes.embedding, expansion.embedding),
        arrivals=jax.tree.map(write, planes.arrivals, arrival)
        if planes.arrivals is not None
        else None,
    )


def summary(
    planes: Planes, config: SearchConfig, simulations: Int[Array, ""] | int
) -> SearchResult:
    """The root's visit counts, mean returns and value after that many simulations."""
    visits, returns = at_root(planes.visits), at_root(planes.returns)
    extra: Any = planes.value[0] if config.root_value == "network_and_search" else 0.0
    count = simulations + (1 if config.root_value == "network_and_search" else 0)
    return SearchResult(
        visits=visits,
        q=returns / jnp.maximum(visits, 1.0),
        value=(returns.sum(axis=-1) + extra) / count,
    )
