"""Where a polygon meets an edge of the ground: Box2D 2.3's contact manifold of an isolated,
two-sided edge and a convex polygon.

The ground does not move, so its frame is the world's.  Everything is unrolled over the
polygon's few vertices; ``jax.vmap`` makes bodies, edges and lanes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander import solids
from muscope.envs.lunar_lander.bodies import ANGULAR_SLOP, rotate
from muscope.envs.lunar_lander.kernel import rounded
from muscope.envs.lunar_lander.solids import Point, Polygon

RADIUS = np.float32(0.02)  # m, the skins of both shapes
RELATIVE, ABSOLUTE = np.float32(0.98), np.float32(0.001)  # how much better a polygon's face must be
EPSILON = np.float32(1.1920929e-7)  # m, too short for a direction
VERTEX, FACE = 0, 1


class Manifold(NamedTuple):
    """Up to two contact points in the frame of the shape that does not own the normal."""

    on_polygon: Bool[Array, ""]
    """The reference face is the polygon's; otherwise it is the edge."""
    normal: Float[Array, "2"]
    """Outward of the reference face, in its shape's frame."""
    reference: Float[Array, "2"]
    """A point of the reference face, in its shape's frame."""
    points: Float[Array, "2 2"]
    """In the other shape's frame."""
    ids: Int[Array, "2"]
    """Which features meet, to find a point's impulse again in the next step."""
    touching: Bool[Array, "2"]
    """Which points are within the skins."""


class _Clipped(NamedTuple):
    x: Array
    y: Array
    id: Array


def dot(a: Point, b: Point) -> Array:
    """The inner product."""
    return a[0] * b[0] + a[1] * b[1]


def less(a: Point, b: Point) -> Point:
    """The vector a - b."""
    return a[0] - b[0], a[1] - b[1]


def unit(vector: Point) -> Point:
    """The vector at length 1; as it is if it has almost none."""
    length = rounded(jnp.sqrt(dot(vector, vector)))
    scale = jnp.where(length < EPSILON, 1.0, 1.0 / length)
    return vector[0] * scale, vector[1] * scale


def pick(index: Int[Array, ""], choices: list[Array]) -> Array:
    """``choices[index]``, unrolled."""
    picked = choices[0]
    for i, choice in enumerate(choices[1:], start=1):
        picked = jnp.where(index == i, choice, picked)
    return picked


def pick_point(index: Int[Array, ""], points: list[Point]) -> Point:
    """``points[index]``, unrolled."""
    return pick(index, [p[0] for p in points]), pick(index, [p[1] for p in points])


def _id(index_a: Array, index_b: Array, type_a: Array, type_b: Array) -> Array:
    return index_a | (index_b << 4) | (type_a << 8) | (type_b << 9)


def _swap(number: Array) -> Array:
    return _id((number >> 4) & 15, number & 15, (number >> 9) & 1, (number >> 8) & 1)


def _clip(
    points: tuple[_Clipped, _Clipped], normal: Point, offset: Array, vertex: Array
) -> tuple[tuple[_Clipped, _Clipped], Array]:
    """The part of a segment on the inner side of a line, and how many points are left."""
    first, second = points
    d0 = dot(normal, (first.x, first.y)) - offset
    d1 = dot(normal, (second.x, second.y)) - offset
    crossing = d0 * d1 < 0
    along = d0 / jnp.where(crossing, d0 - d1, 1.0)
    cut = _Clipped(
        first.x + along * (second.x - first.x),
        first.y + along * (second.y - first.y),
        _id(vertex, (first.id >> 4) & 15, jnp.int32(VERTEX), jnp.int32(FACE)),
    )
    count = (d0 <= 0).astype(jnp.int32) + (d1 <= 0) + crossing

    def choose(first_kept: Array, a: _Clipped, b: _Clipped) -> _Clipped:
        return _Clipped(*(jnp.where(first_kept, x, y) for x, y in zip(a, b, strict=True)))

    # In order: the first point if it is inside, the second if it is, then the cut.
    out = choose(d0 <= 0, first, second)
    other = choose((d0 <= 0) & (d1 <= 0), second, cut)
    return (out, other), count


def collide(
    polygon: Polygon,
    x: Float[Array, ""],
    y: Float[Array, ""],
    angle: Float[Array, ""],
    start: Float[Array, "2"],
    end: Float[Array, "2"],
) -> Manifold:
    """The manifold of a polygon and the ground's edge from ``start`` to ``end``.

    Args:
        polygon: the body's shape.
        x: of the body's origin, m.
        y: of the body's origin, m.
        angle: of the body, rad.
        start: the edge's first vertex, m.
        end: its second vertex, m.

    """
    count = polygon.count
    turned = [rotate(angle, *vertex) for vertex in solids.corners(polygon.vertices)]
    corners = [(x + a, y + b) for a, b in turned]
    normals = [rotate(angle, *normal) for normal in solids.corners(polygon.normals)]
    middle = rotate(angle, *polygon.centroid)
    v1, v2 = (start[0], start[1]), (end[0], end[1])

    side = unit(less(v2, v1))
    upward = (side[1], -side[0])
    front = dot(upward, less((x + middle[0], y + middle[1]), v1)) >= 0
    sign = jnp.where(front, 1.0, -1.0)
    normal = (sign * upward[0], sign * upward[1])
    limit = (-normal[0], -normal[1])

    edge_gap = jnp.inf * jnp.ones(())
    for corner in corners:
        edge_gap = jnp.minimum(edge_gap, dot(normal, less(corner, v1)))
    apart = edge_gap > RADIUS
    face_gap, face = jnp.float32(-jnp.inf), jnp.int32(-1)
    for i, (corner, outward) in enumerate(zip(corners, normals, strict=True)):
        inward = (-outward[0], -outward[1])
        gap = jnp.minimum(dot(inward, less(corner, v1)), dot(inward, less(corner, v2)))
        apart |= gap > RADIUS
        fits = dot(less(inward, limit), normal) >= -ANGULAR_SLOP
        better = fits & (gap > face_gap)
        face_gap, face = jnp.where(better, gap, face_gap), jnp.where(better, i, face)
    on_polygon = (face >= 0) & (face_gap > RELATIVE * edge_gap + ABSOLUTE)

    # The incident segment is clipped to the sides of the reference face.
    lowest, incident = dot(normal, normals[0]), jnp.int32(0)
    for i, outward in enumerate(normals[1:], start=1):
        value = dot(normal, outward)
        incident = jnp.where(value < lowest, i, incident)
        lowest = jnp.minimum(value, lowest)
    after = jnp.where(incident + 1 < count, incident + 1, 0)
    face = jnp.maximum(face, 0)
    face_after = jnp.where(face + 1 < count, face + 1, 0)
    zero, one = jnp.int32(0), jnp.int32(1)
    on_edge = [
        (*pick_point(i, corners), _id(zero, i, jnp.int32(FACE), jnp.int32(VERTEX)))
        for i in (incident, after)
    ]
    on_face = [(*v, _id(zero, face, jnp.int32(VERTEX), jnp.int32(FACE))) for v in (v1, v2)]
    segment = tuple(
        _Clipped(*(jnp.where(on_polygon, b, a) for a, b in zip(edge, own, strict=True)))
        for edge, own in zip(on_edge, on_face, strict=True)
    )

    def by_owner(own: Array, edge: Array) -> Array:
        return jnp.where(on_polygon, own, edge)

    own_normal = pick_point(face, normals)
    ref_normal = (by_owner(own_normal[0], normal[0]), by_owner(own_normal[1], normal[1]))
    edge_first = (jnp.where(front, v1[0], v2[0]), jnp.where(front, v1[1], v2[1]))
    edge_second = (jnp.where(front, v2[0], v1[0]), jnp.where(front, v2[1], v1[1]))
    own_first, own_second = pick_point(face, corners), pick_point(face_after, corners)
    first = (by_owner(own_first[0], edge_first[0]), by_owner(own_first[1], edge_first[1]))
    second = (by_owner(own_second[0], edge_second[0]), by_owner(own_second[1], edge_second[1]))
    side1 = (ref_normal[1], -ref_normal[0])
    side2 = (-side1[0], -side1[1])
    i1 = by_owner(face, jnp.where(front, zero, one))
    i2 = by_owner(face_after, jnp.where(front, one, zero))
    clipped, left = _clip((segment[0], segment[1]), side1, dot(side1, first), i1)
    apart |= left < 2
    clipped, left = _clip(clipped, side2, dot(side2, second), i2)
    apart |= left < 2

    points, ids, touching = [], [], []
    for point in clipped:
        at = (point.x, point.y)
        local = rotate(-angle, point.x - x, point.y - y)
        points.append(jnp.stack([by_owner(point.x, local[0]), by_owner(point.y, local[1])]))
        ids.append(by_owner(_swap(point.id), point.id))
        touching.append(~apart & (dot(ref_normal, less(at, first)) <= RADIUS))
    own_local = pick_point(face, solids.corners(polygon.normals))
    own_place = pick_point(face, solids.corners(polygon.vertices))
    return Manifold(
        on_polygon,
        jnp.stack([by_owner(own_local[i], normal[i]) for i in (0, 1)]),
        jnp.stack([by_owner(own_place[i], edge_first[i]) for i in (0, 1)]),
        jnp.stack(points),
        jnp.stack(ids),
        jnp.stack(touching),
    )
