"""MuZero's search as one would write it on paper: nodes, a descent, a walk back.  Float64."""

from __future__ import annotations

import math

import numpy as np


class Node:
    def __init__(self, state, prior, value, depth=0):
        self.state, self.prior, self.value, self.depth = state, prior, value, depth
        self.children = {}
        self.visits = np.zeros(len(prior))
        self.returns = np.zeros(len(prior))
        self.reward = 0.0


def softmax(x):
    e = np.exp(np.asarray(x, np.float64) - np.max(x))
    return e / e.sum()


def equation_2(node, nodes, config):
    """The score of every action at ``node`` of a tree of ``nodes``, Q normalised tree-wide."""
    q_all = [
        w / n for other in nodes for w, n in zip(other.returns, other.visits, strict=True) if n > 0
    ]
    low, high = (min(q_all), max(q_all)) if q_all else (0.0, 0.0)
    scale = 1.0 / max(high - low, config.range_floor)
    total = node.visits.sum()
    if config.unvisited == "minimum" or not q_all:
        unknown = 0.0
    else:
        mean = (node.returns.sum() + node.value) / (total + 1)
        unknown = min(max((mean - low) * scale, 0.0), 1.0)
    seen = total + 1 if config.count_node else total
    c = config.c1 + math.log((seen + config.c2 + 1) / config.c2)
    scores = []
    for a, p in enumerate(node.prior):
        q = (node.returns[a] / node.visits[a] - low) * scale if node.visits[a] else unknown
        scores.append(q + c * p * math.sqrt(max(seen, 1)) / (1 + node.visits[a]))
    return scores


def naive_tree(step, prior, leaf, state, simulations, discount, config, root_prior=None):
    """All nodes, the root first, in the order in which they were added.

    ``step``, ``prior`` and ``leaf`` are plain Python functions of a state.  Under a horizon
    (``config.max_depth``) a simulation that comes back to a node there adds none.
    """
    root = Node(state, softmax(prior(state)) if root_prior is None else root_prior, leaf(state))
    nodes = [root]
    for _ in range(simulations):
        node, path = root, []
        while not config.max_depth or node.depth < config.max_depth:
            action = int(np.argmax(equation_2(node, nodes, config)))
            path.append((node, action))
            if action not in node.children:
                following, reward = step(node.state, action)
                child = Node(following, softmax(prior(following)), leaf(following), node.depth + 1)
                child.reward = reward
                node.children[action] = child
                nodes.append(child)
                node = child
                break
            node = node.children[action]
        returned = node.value
        for parent, action in reversed(path):
            returned = parent.children[action].reward + discount * returned
            parent.visits[action] += 1
            parent.returns[action] += returned
    return nodes


def naive_search(*arguments, **options):
    """Visits [A], sums of returns [A] and the root's network value; arguments as above."""
    root = naive_tree(*arguments, **options)[0]
    return root.visits, root.returns, root.value
