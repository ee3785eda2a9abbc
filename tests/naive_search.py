"""MuZero's search as one would write it on paper: nodes, a descent, a walk back.  Float64."""

from __future__ import annotations

import math

import numpy as np


class Node:
    def __init__(self, state, prior, value):
        self.state, self.prior, self.value = state, prior, value
        self.children = {}
        self.visits = np.zeros(len(prior))
        self.returns = np.zeros(len(prior))
        self.reward = 0.0


def softmax(x):
    e = np.exp(np.asarray(x, np.float64) - np.max(x))
    return e / e.sum()


def naive_search(step, prior, leaf, state, simulations, discount, config, root_prior=None):
    """Visits [A], sums of returns [A] and the root's network value.

    ``step``, ``prior`` and ``leaf`` are plain Python functions of a state.
    """
    root = Node(state, softmax(prior(state)) if root_prior is None else root_prior, leaf(state))
    nodes = [root]

    def scores(node):
        q_all = [
            w / n
            for other in nodes
            for w, n in zip(other.returns, other.visits, strict=True)
            if n > 0
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
        found = []
        for a, p in enumerate(node.prior):
            q = (node.returns[a] / node.visits[a] - low) * scale if node.visits[a] else unknown
            found.append(q + c * p * math.sqrt(max(seen, 1)) / (1 + node.visits[a]))
        return found

    for _ in range(simulations):
        node, path = root, []
        while True:
            action = int(np.argmax(scores(node)))
            path.append((node, action))
            if action not in node.children:
                break
            node = node.children[action]
        following, reward = step(node.state, action)
        child = Node(following, softmax(prior(following)), leaf(following))
        child.reward = reward
        node.children[action] = child
        nodes.append(child)
        returned = child.value
        rewards = [n.children[a].reward for n, a in path]
        for (visited, a), r in zip(reversed(path), reversed(rewards), strict=True):
            returned = r + discount * returned
            visited.visits[a] += 1
            visited.returns[a] += returned
    return root.visits, root.returns, root.value
