"""A search tree laid out for a page: places of nodes and edges, to be drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SLOT, LEVEL, MARGIN = 26.0, 64.0, 26.0
"""Pixels between neighbouring leaves, between depths, and around the tree."""
LEAST, MOST = 4.0, 11.0
"""Pixels of a node's radius."""
SHADES = 5
"""Of the error at a node, from none to the greatest of the tree."""


class Node(NamedTuple):
    """A node as it is drawn."""

    number: int
    x: float
    y: float
    radius: float
    """Its area is a share of the simulations."""
    shade: int
    """0 to ``SHADES`` - 1: its error's size among the tree's."""
    ended: bool
    on_line: bool
    words: str
    """What is known of it, in one line."""
    up: tuple[float, float] | None
    """Its parent's place."""
    action: str
    """The name of the action that leads here."""


class Drawing(NamedTuple):
    """A tree as it is drawn."""

    width: float
    height: float
    nodes: list[Node]
    greatest: float
    """The greatest error of a node."""


def drawn(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Drawing:
    """Lay a tree out, children in the order of their actions below their parent.

    Args:
        rows: of its nodes, see :func:`muscope.reporting.one_state.nodes_of`; the root first.
        names: of the actions.

    """
    by_number = {row["node"]: row for row in rows}
    children: dict[int, list[int]] = {row["node"]: [] for row in rows}
    for row in sorted(rows[1:], key=lambda row: row["action"]):
        children[row["parent"]].append(row["node"])
    x = _columns(children, rows[0]["node"])
    greatest = max(row["error"] for row in rows)
    simulations = max(rows[0]["visits"], 1)

    def place(number: int) -> tuple[float, float]:
        return MARGIN + SLOT * x[number], MARGIN + LEVEL * by_number[number]["depth"]

    def node(row: Mapping[str, Any]) -> Node:
        number = row["node"]
        is_root = row["parent"] < 0
        share = math.sqrt(row["visits"] / simulations)
        shade = min(int(SHADES * row["error"] / greatest), SHADES - 1) if greatest > 0 else 0
        return Node(
            number,
            *place(number),
            LEAST + (MOST - LEAST) * share,
            shade,
            row["ended"],
            row["on_line"],
            _words(row, "root" if is_root else names[row["action"]]),
            None if is_root else place(row["parent"]),
            "" if is_root else names[row["action"]],
        )

    nodes = [node(row) for row in rows]
    width = 2 * MARGIN + SLOT * max(x.values())
    height = 2 * MARGIN + LEVEL * max(row["depth"] for row in rows)
    return Drawing(width, height, nodes, greatest)


def _columns(children: Mapping[int, Sequence[int]], root: int) -> dict[int, float]:
    """Leaves side by side, each parent in the middle of its children; without recursion, because a
    tree may be as deep as it has nodes.
    """
    x: dict[int, float] = {}
    order, waiting, leaves = [], [root], 0
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting.extend(reversed(children[node]))
    for node in order:
        if not children[node]:
            x[node] = float(leaves)
            leaves += 1
    for node in reversed(order):
        if children[node]:
            x[node] = sum(x[child] for child in children[node]) / len(children[node])
    return x


def _words(row: Mapping[str, Any], name: str) -> str:
    parts = [
        f"node {row['node']}, {name}: {row['visits']} visits",
        f"prior {row['prior']:.2f}",
        f"Q {row['q']:.4g}",
        f"value {row['value']:.4g}",
        f"reward predicted {row['predicted_reward']:.3g}, true {row['true_reward']:.3g}",
        f"return so far predicted {row['predicted_return']:.4g}, true {row['true_return']:.4g}",
    ]
    if row["ended"]:
        parts.append("the true episode is over here")
    return "; ".join(parts)
