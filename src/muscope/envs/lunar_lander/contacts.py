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

from muscope.envs.lunar_lander.bodies import (
    CENTRE,
    INVERSE_INERTIA,
    INVERSE_MASS,
    LINEAR_SLOP,
    Bodies,
    Motion,
    replace,
    rotate,
)
from muscope.envs.lunar_lander.collide import Manifold
from muscope.envs.lunar_lander.kernel import rounded

OF_GROUND, OF_BODIES = np.float32(0.1), np.array([0.1, 0.2, 0.2], np.float32)
FRICTION = tuple(np.sqrt(OF_GROUND * OF_BODIES))
"""Of lander and legs on the ground, each the root of the product of both materials'."""
SKIN = np.float32(0.01)  # m, of one shape
BAUMGARTE = np.float32(0.2)
CLOSE_ENOUGH = np.float32(-3.0) * LINEAR_SLOP
MOST_CORRECTION = np.float32(0.2)  # m per position iteration
CONDITION = np.float32(1000.0)  # above it, two points are solved as one
CENTRES = ((np.float32(0.0), CENTRE), (np.float32(0.0), np.float32(0.0)), (np.float32(0.0),) * 2)
"""Centres of mass in the bodies' frames."""

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


def _place(bodies: Bodies, body: int) -> tuple[Array, Array]:
    dx, dy = rotate(bodies.angle[body], *CENTRES[body])
    return bodies.x[body] - dx, bodies.y[body] - dy


def _world(bodies: Bodies, body: int, manifold: Manifold) -> tuple[Pair, list[Pair], list[Array]]:
    """The normal towards the body, the points and their distances from the reference face."""
    x, y = _place(bodies, body)
    angle = bodies.angle[body]
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


def prepare(bodies: Bodies, body: int, manifold: Manifold, impulses: Impulses) -> Constraint:
    """Masses and lever arms at the start of a step."""
    normal, points, gaps = _world(bodies, body, manifold)
    m, i = INVERSE_MASS[body], INVERSE_INERTIA[body]
    outward = jnp.where(manifold.on_polygon, -1.0, 1.0)
    arms_x, arms_y, along, across = [], [], [], []
    for point, gap in zip(points, gaps, strict=True):
        # The contact point lies midway between the two skins.
        own, other = (SKIN - gap) * outward, SKIN * outward
        middle = [
            0.5 * ((p + own * n) + (p - other * n)) for p, n in zip(point, normal, strict=True)
        ]
        x, y = middle[0] - bodies.x[body], middle[1] - bodies.y[body]
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


def _push(motion: Motion, body: int, c: Constraint, impulses: dict[int, Pair]) -> Motion:
    """Velocities after impulses at points, all at once."""
    m, i = INVERSE_MASS[body], INVERSE_INERTIA[body]
    x, y = (functools.reduce(operator.add, axis) for axis in zip(*impulses.values(), strict=True))
    turns = [c.x[p] * along_y - c.y[p] * along_x for p, (along_x, along_y) in impulses.items()]
    turn = functools.reduce(operator.add, turns)
    return Motion(motion.vx + m * x, motion.vy + m * y, motion.spin + i * turn)


def _speed(motion: Motion, c: Constraint, point: int) -> Pair:
    return motion.vx - motion.spin * c.y[point], motion.vy + motion.spin * c.x[point]


def warm_start(motion: Motion, body: int, c: Constraint, impulses: Impulses) -> Motion:
    """Velocities after last step's impulses."""
    nx, ny = c.normal
    for p in (0, 1):
        kept = (impulses.normal[p], impulses.tangent[p])
        along, across = (jnp.where(p < c.solved, value, 0.0) for value in kept)
        impulse = along * nx + across * ny, along * ny - across * nx
        motion = _push(motion, body, c, {p: impulse})
    return motion


def solve_velocity(
    motion: Motion, body: int, c: Constraint, impulses: Impulses
) -> tuple[Motion, Impulses]:
    """One velocity iteration: friction of both points, then their normal impulses.

    Args:
        motion: of the body that touches the ground.
        body: which one.
        c: the contact's geometry; if no point of it is solved, nothing changes.
        impulses: accumulated so far.

    """
    nx, ny = c.normal
    tangents = []
    for p in (0, 1):
        vx, vy = _speed(motion, c, p)
        most = FRICTION[body] * impulses.normal[p]
        wanted = impulses.tangent[p] - c.tangent_mass[p] * (vx * ny - vy * nx)
        tangent = jnp.where(p < c.solved, jnp.clip(wanted, -most, most), impulses.tangent[p])
        change = tangent - impulses.tangent[p]
        tangents.append(tangent)
        motion = _push(motion, body, c, {p: (change * ny, -change * nx)})

    speeds = []
    for p in (0, 1):
        vx, vy = _speed(motion, c, p)
        speeds.append(vx * nx + vy * ny)
    a1, a2 = impulses.normal
    alone = jnp.maximum(a1 - c.normal_mass[0] * speeds[0], 0.0)
    settled, x1, x2 = _of_two_points(c, a1, a2, speeds[0], speeds[1])
    first = jnp.where(
        c.solved == 2, jnp.where(settled, x1, a1), jnp.where(c.solved == 1, alone, a1)
    )
    second = jnp.where((c.solved == 2) & settled, x2, a2)
    d1, d2 = first - a1, second - a2
    motion = _push(motion, body, c, {0: (d1 * nx, d1 * ny), 1: (d2 * nx, d2 * ny)})
    solved = impulses._replace(normal=(first, second), tangent=(tangents[0], tangents[1]))
    return motion, solved


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
    bodies: Bodies,
    body: int,
    manifold: Manifold,
    impulses: Impulses,
    rate: np.float32 = BAUMGARTE,
    enough: np.float32 = CLOSE_ENOUGH,
) -> tuple[Bodies, Bool[Array, ""]]:
    """One position iteration, and whether the contact was close enough in it.

    Args:
        bodies: to move.
        body: which one.
        manifold: its contact.
        impulses: which points touch.
        rate: share of the overlap that is mended.
        enough: the deepest separation that needs no further iteration, m.

    """
    m, i = INVERSE_MASS[body], INVERSE_INERTIA[body]
    close = jnp.array(True)
    for p in (0, 1):
        normal, points, gaps = _world(bodies, body, manifold)
        gap = rounded(rounded(gaps[p] - SKIN) - SKIN)
        touching = impulses.touching[p]
        close &= ~touching | (gap >= enough)
        correction = jnp.clip(rate * (gap + LINEAR_SLOP), -MOST_CORRECTION, 0.0)
        x, y = points[p][0] - bodies.x[body], points[p][1] - bodies.y[body]
        lever = x * normal[1] - y * normal[0]
        push = jnp.where(touching, -correction / (m + i * lever * lever), 0.0)
        px, py = push * normal[0], push * normal[1]
        bodies = bodies._replace(
            x=replace(bodies.x, body, bodies.x[body] + m * px),
            y=replace(bodies.y, body, bodies.y[body] + m * py),
            angle=replace(bodies.angle, body, bodies.angle[body] + i * (x * py - y * px)),
        )
    return bodies, close
