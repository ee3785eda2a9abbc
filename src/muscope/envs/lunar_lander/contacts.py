"""Contacts of a body with the ground, after Box2D 2.3's solver: friction, then the normal
impulses of both points at once, accumulated and warm-started.

The ground has no mass, so a contact moves one body only.
"""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from muscope.envs.lunar_lander.bodies import LINEAR_SLOP, Body, rotate
from muscope.envs.lunar_lander.collide import Manifold
from muscope.envs.lunar_lander.kernel import rounded
from muscope.envs.lunar_lander.solids import Solid

SKIN = np.float32(0.01)  # m, of one shape
BAUMGARTE = np.float32(0.2)
CLOSE_ENOUGH = np.float32(-3.0) * LINEAR_SLOP
MOST_CORRECTION = np.float32(0.2)  # m per position iteration
CONDITION = np.float32(1000.0)  # above it, two points are solved as one

Pair = tuple[Array, Array]


class Impulses(NamedTuple):
    """What a contact's two points have accumulated, and which features they are."""

    normal: Pair
    tangent: Pair
    ids: Pair
    touching: Pair


class Constraint(NamedTuple):
    """One contact's geometry for a step's velocity iterations."""

    normal: Pair
    """From the ground to the body."""
    x: Pair
    """Lever arms of the two points, m."""
    y: Pair
    normal_mass: Pair
    tangent_mass: Pair
    k11: Array
    k12: Array
    k22: Array
    inverse: tuple[Array, Array, Array]
    """Of K: its upper triangle."""
    solved: Int[Array, ""]
    """Points that are solved: 0, 1 or 2."""


def nothing() -> Impulses:
    """No contact."""
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    no = jnp.zeros((), bool)
    return Impulses((zero, zero), (zero, zero), (none, none), (no, no))


def match(manifold: Manifold, old: Impulses) -> Impulses:
    """The new manifold's points with the impulses that the same features had before."""

    def inherited(i: int, values: Pair) -> Array:
        same = [old.touching[j] & (old.ids[j] == manifold.ids[i]) for j in (0, 1)]
        return jnp.where(same[0], values[0], jnp.where(same[1], values[1], 0.0))

    return Impulses(
        (inherited(0, old.normal), inherited(1, old.normal)),
        (inherited(0, old.tangent), inherited(1, old.tangent)),
        (manifold.ids[0], manifold.ids[1]),
        (manifold.touching[0], manifold.touching[1]),
    )


def in_order(manifold: Manifold) -> Manifold:
    """The same manifold with a single touching point in front."""
    second_only = ~manifold.touching[0] & manifold.touching[1]

    def swapped(x: Array) -> Array:
        return jnp.where(second_only, x[::-1], x)

    return manifold._replace(
        points=swapped(manifold.points),
        ids=swapped(manifold.ids),
        touching=swapped(manifold.touching),
    )


def place(body: Body, solid: Solid) -> tuple[Array, Array]:
    """A body's origin."""
    dx, dy = rotate(body.angle, *solid.polygon.centroid)
    return body.x - dx, body.y - dy


def _world(body: Body, solid: Solid, manifold: Manifold) -> tuple[Pair, list[Pair], list[Array]]:
    """The normal towards the body, the points and their distances from the reference face."""
    x, y = place(body, solid)
    angle = body.angle
    face_normal = rotate(angle, manifold.normal[0], manifold.normal[1])
    face_at = rotate(angle, manifold.reference[0], manifold.reference[1])
    own = manifold.on_polygon
    normal = (
        jnp.where(own, face_normal[0], manifold.normal[0]),
        jnp.where(own, face_normal[1], manifold.normal[1]),
    )
    plane = (
        jnp.where(own, x + face_at[0], manifold.reference[0]),
        jnp.where(own, y + face_at[1], manifold.reference[1]),
    )
    points, gaps = [], []
    for i in (0, 1):
        local = manifold.points[i]
        turned = rotate(angle, local[0], local[1])
        point = (
            jnp.where(own, local[0], x + turned[0]),
            jnp.where(own, local[1], y + turned[1]),
        )
        gaps.append((point[0] - plane[0]) * normal[0] + (point[1] - plane[1]) * normal[1])
        points.append(point)
    sign = jnp.where(own, -1.0, 1.0)
    return (sign * normal[0], sign * normal[1]), points, gaps


def prepare(body: Body, solid: Solid, manifold: Manifold, impulses: Impulses) -> Constraint:
    """Masses and lever arms at the start of a step."""
    normal, points, gaps = _world(body, solid, manifold)
    m, i = solid.inverse_mass, solid.inverse_inertia
    outward = jnp.where(manifold.on_polygon, -1.0, 1.0)
    arms_x, arms_y, along, across = [], [], [], []
    for point, gap in zip(points, gaps, strict=True):
        # The contact point lies midway between the two skins.
        own, other = (SKIN - gap) * outward, SKIN * outward
        middle = [
            0.5 * ((p + own * n) + (p - other * n)) for p, n in zip(point, normal, strict=True)
        ]
        x, y = middle[0] - body.x, middle[1] - body.y
        arms_x.append(x)
        arms_y.append(y)
        along.append(x * normal[1] - y * normal[0])
        across.append(-x * normal[0] - y * normal[1])
    k11, k22 = m + i * along[0] * along[0], m + i * along[1] * along[1]
    k12 = m + i * along[0] * along[1]
    touching = impulses.touching
    determinant = k11 * k22 - k12 * k12
    scale = 1.0 / determinant
    solved_as_two = touching[0] & touching[1] & (k11 * k11 < CONDITION * determinant)
    return Constraint(
        normal,
        (arms_x[0], arms_x[1]),
        (arms_y[0], arms_y[1]),
        (1.0 / k11, 1.0 / k22),
        (1.0 / (m + i * across[0] * across[0]), 1.0 / (m + i * across[1] * across[1])),
        k11,
        k12,
        k22,
        (scale * k22, -scale * k12, scale * k11),
        jnp.where(solved_as_two, 2, jnp.where(touching[0], 1, 0)),
    )


def _push(body: Body, solid: Solid, c: Constraint, impulses: dict[int, Pair]) -> Body:
    """Velocities after impulses at points, all at once."""
    m, i = solid.inverse_mass, solid.inverse_inertia
    x, y = (functools.reduce(operator.add, axis) for axis in zip(*impulses.values(), strict=True))
    turns = [c.x[p] * along_y - c.y[p] * along_x for p, (along_x, along_y) in impulses.items()]
    turn = functools.reduce(operator.add, turns)
    return body._replace(vx=body.vx + m * x, vy=body.vy + m * y, spin=body.spin + i * turn)


def _speed(body: Body, c: Constraint, point: int) -> Pair:
    return body.vx - body.spin * c.y[point], body.vy + body.spin * c.x[point]


def warm_start(body: Body, solid: Solid, c: Constraint, impulses: Impulses) -> Body:
    """Velocities after last step's impulses."""
    nx, ny = c.normal
    for p in (0, 1):
        kept = (impulses.normal[p], impulses.tangent[p])
        along, across = (jnp.where(p < c.solved, value, 0.0) for value in kept)
        impulse = along * nx + across * ny, along * ny - across * nx
        body = _push(body, solid, c, {p: impulse})
    return body


def solve_velocity(
    body: Body, solid: Solid, c: Constraint, impulses: Impulses
) -> tuple[Body, Impulses]:
    """One velocity iteration: friction of both points, then their normal impulses.

    Args:
        body: that touches the ground; only its velocities matter.
        solid: what it is made of.
        c: the contact's geometry; if no point of it is solved, nothing changes.
        impulses: accumulated so far.

    """
    nx, ny = c.normal
    tangents = []
    for p in (0, 1):
        vx, vy = _speed(body, c, p)
        most = solid.friction * impulses.normal[p]
        wanted = impulses.tangent[p] - c.tangent_mass[p] * (vx * ny - vy * nx)
        tangent = jnp.where(p < c.solved, jnp.clip(wanted, -most, most), impulses.tangent[p])
        change = tangent - impulses.tangent[p]
        tangents.append(tangent)
        body = _push(body, solid, c, {p: (change * ny, -change * nx)})

    speeds = []
    for p in (0, 1):
        vx, vy = _speed(body, c, p)
        speeds.append(vx * nx + vy * ny)
    a1, a2 = impulses.normal
    alone = jnp.maximum(a1 - c.normal_mass[0] * speeds[0], 0.0)
    settled, x1, x2 = _of_two_points(c, a1, a2, speeds[0], speeds[1])
    first = jnp.where(
        c.solved == 2, jnp.where(settled, x1, a1), jnp.where(c.solved == 1, alone, a1)
    )
    second = jnp.where((c.solved == 2) & settled, x2, a2)
    d1, d2 = first - a1, second - a2
    body = _push(body, solid, c, {0: (d1 * nx, d1 * ny), 1: (d2 * nx, d2 * ny)})
    solved = impulses._replace(normal=(first, second), tangent=(tangents[0], tangents[1]))
    return body, solved


def _of_two_points(
    c: Constraint, a1: Array, a2: Array, v1: Array, v2: Array
) -> tuple[Bool[Array, ""], Array, Array]:
    """Total impulses of two points: x >= 0, w = K x + b >= 0, x . w = 0, and in front whether one
    of its four cases settled them.
    """
    b1 = v1 - (c.k11 * a1 + c.k12 * a2)
    b2 = v2 - (c.k12 * a1 + c.k22 * a2)
    xx, xy, yy = c.inverse
    both1, both2 = -(xx * b1 + xy * b2), -(xy * b1 + yy * b2)
    alone1, alone2 = -c.normal_mass[0] * b1, -c.normal_mass[1] * b2
    cases = (
        ((both1 >= 0) & (both2 >= 0), both1, both2),
        ((alone1 >= 0) & (c.k12 * alone1 + b2 >= 0), alone1, jnp.zeros_like(alone1)),
        ((alone2 >= 0) & (c.k12 * alone2 + b1 >= 0), jnp.zeros_like(alone2), alone2),
        ((b1 >= 0) & (b2 >= 0), jnp.zeros_like(b1), jnp.zeros_like(b2)),
    )
    settled, x1, x2 = jnp.array(False), a1, a2
    for holds, first, second in cases:
        taken = holds & ~settled
        x1, x2 = jnp.where(taken, first, x1), jnp.where(taken, second, x2)
        settled |= holds
    return settled, x1, x2


def solve_position(
    body: Body,
    solid: Solid,
    manifold: Manifold,
    impulses: Impulses,
    rate: np.float32 = BAUMGARTE,
    enough: np.float32 = CLOSE_ENOUGH,
) -> tuple[Body, Bool[Array, ""]]:
    """One position iteration, and whether the contact was close enough in it.

    Args:
        body: to move.
        solid: what it is made of.
        manifold: its contact.
        impulses: which points touch.
        rate: share of the overlap that is mended.
        enough: the deepest separation that needs no further iteration, m.

    """
    m, i = solid.inverse_mass, solid.inverse_inertia
    close = jnp.array(True)
    for p in (0, 1):
        normal, points, gaps = _world(body, solid, manifold)
        gap = rounded(rounded(gaps[p] - SKIN) - SKIN)
        touching = impulses.touching[p]
        close &= ~touching | (gap >= enough)
        correction = jnp.clip(rate * (gap + LINEAR_SLOP), -MOST_CORRECTION, 0.0)
        x, y = points[p][0] - body.x, points[p][1] - body.y
        lever = x * normal[1] - y * normal[0]
        push = jnp.where(touching, -correction / (m + i * lever * lever), 0.0)
        px, py = push * normal[0], push * normal[1]
        body = body._replace(
            x=body.x + m * px, y=body.y + m * py, angle=body.angle + i * (x * py - y * px)
        )
    return body, close
