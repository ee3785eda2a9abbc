"""Which edges of the ground a body may touch, in what order, and what begins and ends there.

The terrain is ten edges, two metres long each, so a body meets two neighbouring ones at most:
the two slots of a :class:`Touch`.  Box2D keeps contacts newest first, solves them and tells
of their beginnings and ends in that order, so a slot remembers which is the newer.

A contact exists while the enlarged boxes of body and edge overlap, long before they touch.  A
body's box is renewed only when the body leaves it, and reaches ahead in the direction of
motion: see :func:`renew`.  (It may reach an edge beyond both slots; that contact is made when a
slot comes to it, as a new one; it cannot touch before.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander import contacts
from muscope.envs.lunar_lander.bodies import Body, rotate
from muscope.envs.lunar_lander.collide import Manifold, collide
from muscope.envs.lunar_lander.contacts import SKIN, Impulses, place
from muscope.envs.lunar_lander.kernel import rounded
from muscope.envs.lunar_lander.solids import Solid

EDGES = 10
CHUNK = 2.0  # m
MARGIN = np.float32(0.1)  # m by which a box is enlarged
AHEAD = np.float32(2.0)  # times a body's way by which its box reaches ahead


class Box(NamedTuple):
    """An upright rectangle, m."""

    low_x: Float[Array, ""]
    low_y: Float[Array, ""]
    high_x: Float[Array, ""]
    high_y: Float[Array, ""]


class Touch(NamedTuple):
    """One body's contacts with edges ``left`` and ``left + 1``."""

    left: Int[Array, ""]
    impulses: tuple[Impulses, Impulses]
    near: tuple[Array, Array]
    """Whether there is a contact: the boxes of body and edge overlap."""
    right_first: Bool[Array, ""]
    """Whether the right edge's contact is the newer."""
    box: Box
    """The body's, enlarged."""


def start(body: Body, solid: Solid) -> Touch:
    """Of a body that is nowhere near the ground."""
    no = jnp.zeros((), bool)
    impulses = (contacts.nothing(), contacts.nothing())
    box = _enlarged(_around(body, solid))
    return Touch(jnp.int32(-5), impulses, (no, no), jnp.ones((), bool), box)


def edge(heights: Float[Array, "11"], number: Int[Array, ""]) -> tuple[Array, Array]:
    """Both ends of a terrain edge, m."""
    number = jnp.clip(number, 0, EDGES - 1)
    x = number.astype(jnp.float32) * CHUNK
    return jnp.stack([x, heights[number]]), jnp.stack([x + CHUNK, heights[number + 1]])


def exists(number: Int[Array, ""]) -> Bool[Array, ""]:
    """Whether the terrain has an edge of this number."""
    return (number >= 0) & (number < EDGES)


def manifolds(
    body: Body, solid: Solid, left: Int[Array, ""], heights: Float[Array, "11"]
) -> tuple[Manifold, Manifold]:
    """A body's manifolds with edges ``left`` and ``left + 1``."""

    def with_edge(number: Array) -> Manifold:
        manifold = collide(solid.polygon, *place(body, solid), body.angle, *edge(heights, number))
        manifold = contacts.in_order(manifold)
        return manifold._replace(touching=manifold.touching & exists(number))

    return halves(jax.vmap(with_edge)(jnp.stack([left, left + 1])))


def halves(stacked: Any) -> tuple[Any, Any]:
    """The two entries of a structure's leading axis."""
    return jax.tree.map(lambda x: x[0], stacked), jax.tree.map(lambda x: x[1], stacked)


def touching(impulses: Impulses) -> Bool[Array, ""]:
    """Whether a contact has a point."""
    return impulses.touching[0] | impulses.touching[1]


def choose(condition: Array, yes: Any, no: Any) -> Any:
    """``jnp.where`` for whole structures."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def newest(touched: Touch, slots: tuple[Any, Any]) -> tuple[Any, Any]:
    """The left and the right slot with the newer contact's in front; twice gives them back."""
    left, right = slots
    first = touched.right_first
    return choose(first, right, left), choose(first, left, right)


def tell(flag: Bool[Array, ""], solid: Solid, old: Impulses, new: Impulses) -> Bool[Array, ""]:
    """Gymnasium's listener: the lander's first touch ends the game; a leg's flag is set by any
    beginning and cleared by any end, although another edge may still be touched.
    """
    begins, ends = ~touching(old) & touching(new), touching(old) & ~touching(new)
    return (flag | begins) & (solid.is_lander | ~ends)


def _around(body: Body, solid: Solid) -> Box:
    """The smallest box around a body and its skin."""
    x, y = place(body, solid)
    turned_x, turned_y = rotate(body.angle, *jnp.asarray(solid.polygon.vertices).T)
    return _box(x + turned_x, y + turned_y)


def _box(x: Float[Array, "n"], y: Float[Array, "n"]) -> Box:
    """The smallest box around points and their skin."""
    return Box(jnp.min(x) - SKIN, jnp.min(y) - SKIN, jnp.max(x) + SKIN, jnp.max(y) + SKIN)


def _enlarged(box: Box) -> Box:
    low_x, low_y, high_x, high_y = (rounded(side) for side in box)
    return Box(low_x - MARGIN, low_y - MARGIN, high_x + MARGIN, high_y + MARGIN)


def _overlap(box: Box, heights: Float[Array, "11"], number: Array) -> Array:
    """Whether a body's box and the one of an edge do."""
    other = _enlarged(_box(*jnp.stack(edge(heights, number), axis=1)))
    beside = (other.low_x <= box.high_x) & (box.low_x <= other.high_x)
    return exists(number) & beside & (other.low_y <= box.high_y) & (box.low_y <= other.high_y)


def renew(body: Body, solid: Solid, before: Body, old: Touch, heights: Float[Array, "11"]) -> Touch:
    """Box and contacts after a motion, as Box2D's broad phase finds them.

    A body that has left its box gets a new one, around its old and its new place, enlarged and
    reaching ahead by twice the way; with every edge that overlaps it a contact begins to exist.

    Args:
        body: after the motion.
        solid: what it is made of.
        before: before it; only the place matters.
        old: its contacts.
        heights: of the terrain, m.

    """
    first, last = _around(before, solid), _around(body, solid)
    tight = Box(
        jnp.minimum(first.low_x, last.low_x),
        jnp.minimum(first.low_y, last.low_y),
        jnp.maximum(first.high_x, last.high_x),
        jnp.maximum(first.high_y, last.high_y),
    )
    inside = (old.box.low_x <= tight.low_x) & (old.box.low_y <= tight.low_y)
    inside &= (tight.high_x <= old.box.high_x) & (tight.high_y <= old.box.high_y)
    x, y = place(body, solid)
    x0, y0 = place(before, solid)
    ahead_x, ahead_y = AHEAD * (x - x0), AHEAD * (y - y0)
    wide = _enlarged(tight)
    wide = Box(
        jnp.where(ahead_x < 0, wide.low_x + ahead_x, wide.low_x),
        jnp.where(ahead_y < 0, wide.low_y + ahead_y, wide.low_y),
        jnp.where(ahead_x < 0, wide.high_x, wide.high_x + ahead_x),
        jnp.where(ahead_y < 0, wide.high_y, wide.high_y + ahead_y),
    )
    new = [
        ~inside & _overlap(wide, heights, old.left + i) & ~near for i, near in enumerate(old.near)
    ]
    return old._replace(
        box=choose(inside, old.box, wide),
        near=(old.near[0] | new[0], old.near[1] | new[1]),
        right_first=_right_first(old.right_first, new),
    )


def _right_first(was: Array, new: list[Array]) -> Array:
    """Which contact is the newer; of two made at once it is the higher edge's."""
    return new[1] | (was & ~new[0])


def shift(body: Body, solid: Solid, old: Touch, heights: Float[Array, "11"]) -> Touch:
    """The slots at the body's present place, and in them the contacts that still exist; their
    impulses are the old ones.
    """
    around = _around(body, solid)
    middle = 0.5 * (around.low_x + around.high_x) / CHUNK
    here = jnp.floor(middle).astype(jnp.int32)
    left = jnp.where(middle - here >= 0.5, here, here - 1)
    moved = left - old.left

    def kept(slots: Any, empty: Any) -> tuple[Any, Any]:
        """The old slots' contents where the new slots are the same edges."""
        same, right, left_ = moved == 0, moved == 1, moved == -1
        return (
            choose(same, slots[0], choose(right, slots[1], empty)),
            choose(same, slots[1], choose(left_, slots[0], empty)),
        )

    near = (_overlap(old.box, heights, left), _overlap(old.box, heights, left + 1))
    was_near = kept(old.near, jnp.zeros((), bool))
    new = [now & ~was for now, was in zip(near, was_near, strict=True)]
    stayed = jnp.where(moved == 0, old.right_first, moved != 1)
    impulses = kept(old.impulses, contacts.nothing())
    return Touch(left, impulses, near, _right_first(stayed, new), old.box)


def follow(
    body: Body, solid: Solid, old: Touch, heights: Float[Array, "11"]
) -> tuple[Touch, tuple[Impulses, Impulses], tuple[Manifold, Manifold]]:
    """The contacts at the body's present place.

    Returns:
        The new touch, with the impulses of features that stayed; the old impulses in the new
        slots, to see what began and ended; and the manifolds.

    """
    touched = shift(body, solid, old, heights)
    impulses = touched.impulses
    with_edges = manifolds(body, solid, touched.left, heights)
    matched = (
        contacts.match(with_edges[0], impulses[0]),
        contacts.match(with_edges[1], impulses[1]),
    )
    return touched._replace(impulses=matched), impulses, with_edges
