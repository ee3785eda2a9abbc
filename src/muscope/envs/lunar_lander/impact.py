"""The time of impact of a moving polygon and an edge of the ground, after Box2D 2.3.

Conservative advancement: from the closest features an axis is chosen, and along it the time
is sought at which the shapes are a target distance apart; there the features are found anew.
Box2D finds them by GJK; shapes this small are searched exhaustively instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander import solids
from muscope.envs.lunar_lander.bodies import PI, rotate
from muscope.envs.lunar_lander.collide import dot, less, pick, pick_point, unit
from muscope.envs.lunar_lander.solids import Point, Polygon

TARGET = np.float32(0.005)  # m between the shapes without their skins
TOLERANCE = np.float32(0.00125)  # m
ROUNDING = np.float32(1e-4)  # m, far more than distances here are off by
WHOLE_TURN = 2 * PI
MOST_ROUNDS, MOST_PUSHES, MOST_HALVINGS = 20, 8, 50
POINTS, EDGE, FACE = 0, 1, 2  # what the separating axis belongs to


class Sweep(NamedTuple):
    """A body's motion over a step: its centre of mass and angle at times 0 and 1."""

    x0: Float[Array, ""]
    y0: Float[Array, ""]
    angle0: Float[Array, ""]
    x: Float[Array, ""]
    y: Float[Array, ""]
    angle: Float[Array, ""]


class Impact(NamedTuple):
    """What :func:`time_of_impact` finds."""

    time: Float[Array, ""]
    """When the shapes are at the target distance, as a fraction of the step."""
    touching: Bool[Array, ""]
    """Whether they come that close at all within the step."""


class _Axis(NamedTuple):
    """A separating axis fixed to the feature it belongs to."""

    kind: Int[Array, ""]
    x: Array
    """In the world (points, edge) or the polygon's frame (face)."""
    y: Array
    at_x: Array
    """A point of the reference face, in its frame."""
    at_y: Array


class _Shapes(NamedTuple):
    polygon: Polygon
    start: Point
    end: Point


def _place(shapes: _Shapes, sweep: Sweep, time: Array) -> tuple[Array, Point]:
    """The polygon's angle and origin at a time."""
    angle = (1.0 - time) * sweep.angle0 + time * sweep.angle
    dx, dy = rotate(angle, *shapes.polygon.centroid)
    x = (1.0 - time) * sweep.x0 + time * sweep.x - dx
    y = (1.0 - time) * sweep.y0 + time * sweep.y - dy
    return angle, (x, y)


def _corners(shapes: _Shapes, sweep: Sweep, time: Array) -> tuple[list[Point], Array, Point]:
    """The polygon's vertices at a time, its angle and its origin."""
    angle, origin = _place(shapes, sweep, time)
    turned = [rotate(angle, *vertex) for vertex in solids.corners(shapes.polygon.vertices)]
    return [(origin[0] + a, origin[1] + b) for a, b in turned], angle, origin


def _nearest(point: Point, a: Point, b: Point) -> tuple[Array, Array]:
    """Squared distance of a point and a segment, and the place on it, 0 (a) to 1 (b)."""
    along, to = less(b, a), less(point, a)
    u = jnp.clip(dot(to, along) / dot(along, along), 0.0, 1.0)
    gap = (to[0] - u * along[0], to[1] - u * along[1])
    return dot(gap, gap), u


def _crossing(corners: list[Point], after: list[Point], start: Point, end: Point) -> Array:
    """Whether the edge goes through the polygon."""
    first, last = jnp.float32(0.0), jnp.float32(1.0)
    along = less(end, start)
    outside = jnp.array(False)
    for corner, following in zip(corners, after, strict=True):
        side = less(following, corner)
        outward = (side[1], -side[0])
        rate, gap = dot(outward, along), dot(outward, less(corner, start))
        at = gap / jnp.where(rate == 0, 1.0, rate)
        first = jnp.where(rate < 0, jnp.maximum(first, at), first)
        last = jnp.where(rate > 0, jnp.minimum(last, at), last)
        outside |= (rate == 0) & (gap < 0)
    return ~outside & (first <= last)


def _features(
    shapes: _Shapes, corners: list[Point], angle: Array, origin: Point
) -> tuple[Array, _Axis]:
    """The distance of the shapes, and the axis of their closest features."""
    ends, after = (shapes.start, shapes.end), solids.next_corners(shapes.polygon, corners)
    best, kind = jnp.float32(jnp.inf), jnp.int32(POINTS)
    of_edge, of_polygon, face = jnp.int32(0), jnp.int32(0), jnp.int32(0)

    def closer(values: tuple, gap: Array, candidate: tuple) -> tuple:
        better = gap < best
        return tuple(jnp.where(better, b, a) for a, b in zip(values, candidate, strict=True))

    for i, corner in enumerate(corners):
        gap, u = _nearest(corner, *ends)
        inside = (u > 0) & (u < 1)
        candidate = (
            gap,
            jnp.where(inside, EDGE, POINTS),
            jnp.where(u >= 1, 1, 0),
            jnp.int32(i),
            face,
        )
        best, kind, of_edge, of_polygon, face = closer(
            (best, kind, of_edge, of_polygon, face), gap, candidate
        )
    for k, point in enumerate(ends):
        for i, corner in enumerate(corners):
            gap, u = _nearest(point, corner, after[i])
            inside = (u > 0) & (u < 1)
            candidate = (gap, jnp.int32(FACE), jnp.int32(k), of_polygon, jnp.int32(i))
            better = (gap < best) & inside
            best, kind, of_edge, of_polygon, face = (
                jnp.where(better, new, old)
                for new, old in zip(candidate, (best, kind, of_edge, of_polygon, face), strict=True)
            )

    end, corner = pick_point(of_edge, list(ends)), pick_point(of_polygon, corners)
    apart = unit(less(corner, end))
    side = unit(less(shapes.end, shapes.start))
    upward = (side[1], -side[0])
    middle = (0.5 * (shapes.start[0] + shapes.end[0]), 0.5 * (shapes.start[1] + shapes.end[1]))
    sign = jnp.where(dot(less(corner, middle), upward) < 0, -1.0, 1.0)
    outward = pick_point(face, solids.corners(shapes.polygon.normals))
    centre = pick_point(face, solids.corners(shapes.polygon.middles))
    turned, place = rotate(angle, *outward), rotate(angle, *centre)
    to_end = less(end, (origin[0] + place[0], origin[1] + place[1]))
    face_sign = jnp.where(dot(to_end, turned) < 0, -1.0, 1.0)
    choices_x = [apart[0], sign * upward[0], face_sign * outward[0]]
    choices_y = [apart[1], sign * upward[1], face_sign * outward[1]]
    axis = _Axis(
        kind,
        pick(kind, choices_x),
        pick(kind, choices_y),
        jnp.where(kind == FACE, centre[0], middle[0]),
        jnp.where(kind == FACE, centre[1], middle[1]),
    )
    distance = jnp.where(_crossing(corners, after, *ends), 0.0, jnp.sqrt(best))
    return distance, axis


def _gap(shapes: _Shapes, sweep: Sweep, axis: _Axis, end: Point, vertex: Point, time: Array):
    """Along the axis, the separation of an edge's end and a polygon's vertex at a time."""
    angle, origin = _place(shapes, sweep, time)
    turned = rotate(angle, vertex[0], vertex[1])
    corner = (origin[0] + turned[0], origin[1] + turned[1])
    return _along(axis, *_axis_at(axis, angle, origin), end, corner)


def _axis_at(axis: _Axis, angle: Array, origin: Point) -> tuple[Point, Point]:
    """The axis' direction and a point of its reference face, in the world."""
    turned = rotate(angle, axis.x, axis.y)
    place = rotate(angle, axis.at_x, axis.at_y)
    on_face = axis.kind == FACE
    normal = (jnp.where(on_face, turned[0], axis.x), jnp.where(on_face, turned[1], axis.y))
    at = (
        jnp.where(on_face, origin[0] + place[0], axis.at_x),
        jnp.where(on_face, origin[1] + place[1], axis.at_y),
    )
    return normal, at


def _along(axis: _Axis, normal: Point, at: Point, end: Point, corner: Point) -> Array:
    between = dot(less(corner, end), normal)
    from_edge = dot(less(corner, at), normal)
    from_face = dot(less(end, at), normal)
    return pick(axis.kind, [between, from_edge, from_face])


def _farthest(vertices: list[Point], direction: Point) -> Array:
    """The index of the vertex farthest in a direction (the first of equal ones)."""
    best, index = dot(vertices[0], direction), jnp.int32(0)
    for i, vertex in enumerate(vertices[1:], start=1):
        value = dot(vertex, direction)
        index = jnp.where(value > best, i, index)
        best = jnp.maximum(value, best)
    return index


def _deepest(shapes: _Shapes, sweep: Sweep, axis: _Axis, time: Array) -> tuple[Point, Point]:
    """The edge's end and the polygon's vertex that are closest along the axis at a time."""
    angle, origin = _place(shapes, sweep, time)
    normal, _ = _axis_at(axis, angle, origin)
    ends = [shapes.start, shapes.end]
    sign = jnp.where(axis.kind == FACE, -1.0, 1.0)
    end = pick_point(_farthest(ends, (sign * normal[0], sign * normal[1])), ends)
    vertices = solids.corners(shapes.polygon.vertices)
    back = rotate(-angle, -normal[0], -normal[1])
    return end, pick_point(_farthest(vertices, back), vertices)


def time_of_impact(
    polygon: Polygon, sweep: Sweep, start: Float[Array, "2"], end: Float[Array, "2"]
) -> Impact:
    """When a moving polygon comes to the target distance of an edge, within one step.

    Args:
        polygon: the body's shape.
        sweep: its motion.
        start: the edge's first vertex, m.
        end: its second vertex, m.

    """
    shapes = _Shapes(polygon, (start[0], start[1]), (end[0], end[1]))
    turns = WHOLE_TURN * jnp.floor(sweep.angle0 / WHOLE_TURN)
    sweep = sweep._replace(angle0=sweep.angle0 - turns, angle=sweep.angle - turns)

    def root(gap: Callable[[Array], Array], low: Array, high: Array, s1: Array, s2: Array) -> Array:
        """Bisection and secant in turn, bisection first."""

        def going(carry):
            return (carry[0] < MOST_HALVINGS) & ~carry[6]

        def step(carry):
            count, a, b, sa, sb, _, _ = carry
            secant = a + (TARGET - sa) * (b - a) / jnp.where(sb == sa, 1.0, sb - sa)
            time = jnp.where(count % 2 == 1, secant, 0.5 * (a + b))
            s = gap(time)
            done = jnp.abs(s - TARGET) < TOLERANCE
            above = s > TARGET
            return (
                count + 1,
                jnp.where(above, time, a),
                jnp.where(above, b, time),
                jnp.where(above, s, sa),
                jnp.where(above, sb, s),
                jnp.where(done, time, high),
                done,
            )

        begin = (jnp.int32(0), low, high, s1, s2, high, jnp.array(False))
        return jax.lax.while_loop(going, step, begin)[5]

    def push(carry):
        """Pull the end of the interval back to where the deepest pair is at the target."""
        count, axis, t1, t2, time, touching, _, done = carry
        corner, vertex = _deepest(shapes, sweep, axis, t2)

        def gap(time: Array) -> Array:
            return _gap(shapes, sweep, axis, corner, vertex, time)

        s2 = gap(t2)
        apart, near = s2 > TARGET + TOLERANCE, s2 > TARGET - TOLERANCE
        s1 = gap(t1)
        failed = s1 < TARGET - TOLERANCE
        at_once = s1 <= TARGET + TOLERANCE
        ends = apart | (~near & (failed | at_once))
        advanced = ~apart & near
        at_target = root(gap, t1, t2, s1, s2)
        return (
            count + 1,
            axis,
            jnp.where(advanced, t2, t1),
            jnp.where(ends | advanced, t2, at_target),
            jnp.where(apart, 1.0, jnp.where(ends, t1, time)),
            jnp.where(ends, ~apart & ~failed, touching),
            advanced | ends,
            done | ends,
        )

    def round_(carry):
        count, t1, time, touching, _ = carry
        corners, angle, origin = _corners(shapes, sweep, t1)
        distance, axis = _features(shapes, corners, angle, origin)
        overlapped = distance <= 0
        close = ~overlapped & (distance < TARGET + TOLERANCE)
        stop = overlapped | close
        time = jnp.where(overlapped, 0.0, jnp.where(close, t1, time))
        touching = jnp.where(stop, close, touching)

        def going(carry):
            return (carry[0] < MOST_PUSHES) & ~carry[6]

        begin = (jnp.int32(0), axis, t1, jnp.float32(1.0), time, touching, stop, stop)
        _, _, t1, _, time, touching, _, done = jax.lax.while_loop(going, push, begin)
        last = (count + 1 >= MOST_ROUNDS) & ~done
        return count + 1, t1, jnp.where(last, t1, time), touching & ~last, done | last

    begin = (jnp.int32(0), jnp.float32(0.0), jnp.float32(0.0), jnp.array(False), jnp.array(False))
    _, _, time, touching, _ = jax.lax.while_loop(lambda carry: ~carry[4], round_, begin)
    return Impact(time, touching)


def stays_clear(
    polygon: Polygon, sweep: Sweep, start: Float[Array, "2"], end: Float[Array, "2"]
) -> Bool[Array, ""]:
    """Whether a polygon is too far from an edge for an impact all through the step.

    True only if it is certain: before and after, the whole polygon is beyond the edge's line or
    beyond one of its ends, and by more than turning in between can take away.
    """
    shapes = _Shapes(polygon, (start[0], start[1]), (end[0], end[1]))
    side = less(shapes.end, shapes.start)
    length = jnp.sqrt(dot(side, side))
    up = (-side[1] / length, side[0] / length)
    turn = sweep.angle - sweep.angle0
    # A corner leaves the chord of its arc by at most radius * turn^2 / 8.
    enough = TARGET + TOLERANCE + ROUNDING + polygon.radius / 8 * turn * turn
    clear = []
    for corners in (_corners(shapes, sweep, jnp.float32(t))[0] for t in (0.0, 1.0)):
        above = functools.reduce(jnp.minimum, [dot(up, less(c, shapes.start)) for c in corners])
        left = functools.reduce(jnp.maximum, [c[0] for c in corners]) < start[0] - enough
        right = functools.reduce(jnp.minimum, [c[0] for c in corners]) > end[0] + enough
        clear.append(jnp.stack([above > enough, left, right]))
    return jnp.any(clear[0] & clear[1])
