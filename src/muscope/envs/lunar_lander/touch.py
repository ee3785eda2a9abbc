"""Which edges of the ground a body may touch, in what order, and what begins and ends there.

The terrain is ten edges, two metres long each, so a body meets two neighbouring ones at most:
the two slots of a :class:`Touch`.  Box2D keeps contacts newest first, solves them and tells
of their beginnings and ends in that order, so a slot remembers which is the newer.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander import contacts
from muscope.envs.lunar_lander.bodies import Bodies, rotate
from muscope.envs.lunar_lander.collide import LANDER, LEG, Manifold, collide
from muscope.envs.lunar_lander.contacts import CENTRES, Impulses

SHAPES = (LANDER, LEG, LEG)
EDGES = 10
CHUNK = 2.0  # m
MARGIN = 0.22  # m, at which Box2D's enlarged boxes of a slow body and an edge meet


class Touch(NamedTuple):
    """One body's contacts with edges ``left`` and ``left + 1``."""

    left: Int[Array, ""]
    impulses: tuple[Impulses, Impulses]
    near: tuple[Array, Array]
    """Whether the boxes of body and edge meet."""
    right_first: Bool[Array, ""]
    """Whether the right edge's contact is the newer."""


def start() -> Touch:
    """Nowhere near the ground."""
    no = jnp.zeros((), bool)
    both = (contacts.nothing(), contacts.nothing())
    return Touch(jnp.int32(-5), both, (no, no), jnp.ones((), bool))


def edge(heights: Float[Array, "11"], number: Int[Array, ""]) -> tuple[Array, Array]:
    """Both ends of a terrain edge, m."""
    number = jnp.clip(number, 0, EDGES - 1)
    x = number.astype(jnp.float32) * CHUNK
    return jnp.stack([x, heights[number]]), jnp.stack([x + CHUNK, heights[number + 1]])


def exists(number: Int[Array, ""]) -> Bool[Array, ""]:
    """Whether the terrain has an edge of this number."""
    return (number >= 0) & (number < EDGES)


def place(bodies: Bodies, body: int) -> tuple[Array, Array, Array]:
    """A body's origin and angle."""
    dx, dy = rotate(bodies.angle[body], *CENTRES[body])
    return bodies.x[body] - dx, bodies.y[body] - dy, bodies.angle[body]


def manifolds(
    bodies: Bodies, body: int, left: Int[Array, ""], heights: Float[Array, "11"]
) -> tuple[Manifold, Manifold]:
    """A body's manifolds with edges ``left`` and ``left + 1``."""

    def one(number: Array) -> Manifold:
        found = collide(SHAPES[body], *place(bodies, body), *edge(heights, number))
        found = contacts.in_order(found)
        return found._replace(touching=found.touching & exists(number))

    return halves(jax.vmap(one)(jnp.stack([left, left + 1])))


def halves(both: Any) -> tuple[Any, Any]:
    """The two entries of a structure's leading axis."""
    return jax.tree.map(lambda x: x[0], both), jax.tree.map(lambda x: x[1], both)


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


def tell(flag: Bool[Array, ""], body: int, old: Impulses, new: Impulses) -> Bool[Array, ""]:
    """Gymnasium's listener: the lander's first touch ends the game; a leg's flag is set by any
    beginning and cleared by any end, although another edge may still be touched.
    """
    begins, ends = ~touching(old) & touching(new), touching(old) & ~touching(new)
    return flag | begins if body == 0 else (flag | begins) & ~ends


def follow(
    bodies: Bodies, body: int, old: Touch, heights: Float[Array, "11"]
) -> tuple[Touch, tuple[Impulses, Impulses], tuple[Manifold, Manifold]]:
    """The slots at the body's present place.

    Returns:
        The new touch, with the impulses of features that stayed; the old impulses in the new
        slots, to see what began and ended; and the manifolds.

    """
    x, y, angle = place(bodies, body)
    corners = [rotate(angle, *vertex) for vertex in SHAPES[body].vertices]
    low_x, high_x, low_y, high_y = (
        functools.reduce(reduce, [corner[axis] for corner in corners]) + at
        for axis, at in ((0, x), (1, y))
        for reduce in (jnp.minimum, jnp.maximum)
    )
    middle = 0.5 * (low_x + high_x) / CHUNK
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

    def meets(number: Array) -> Array:
        (x0, y0), (x1, y1) = edge(heights, number)
        beside = (low_x < x1 + MARGIN) & (high_x > x0 - MARGIN)
        level = (low_y < jnp.maximum(y0, y1) + MARGIN) & (high_y > jnp.minimum(y0, y1) - MARGIN)
        return exists(number) & beside & level

    impulses = kept(old.impulses, contacts.nothing())
    was_near = kept(old.near, jnp.zeros((), bool))
    near = (meets(left), meets(left + 1))
    stayed = jnp.where(moved == 0, old.right_first, moved != 1)
    new_left, new_right = near[0] & ~was_near[0], near[1] & ~was_near[1]
    # Of contacts made in one step the higher edge's is in front.
    right_first = new_right | (stayed & ~new_left)
    found = manifolds(bodies, body, left, heights)
    matched = (contacts.match(found[0], impulses[0]), contacts.match(found[1], impulses[1]))
    return Touch(left, matched, near, right_first), impulses, found
