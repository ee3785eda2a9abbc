"""What the three bodies are made of: shape, mass, friction; none of it changes.

A solid is a structure of arrays, so that one function of one body does all three under
``jax.vmap``, over :data:`SOLIDS`.  For this a leg has as many corners as the lander: its first
ones come again behind its last.  Comparisons are strict, so the first of equal corners counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from muscope.envs.lunar_lander.bodies import CENTRE, INVERSE_INERTIA, INVERSE_MASS, SCALE

CORNERS = 6
OF_GROUND, OF_BODIES = np.float32(0.1), np.array([0.1, 0.2, 0.2], np.float32)
FRICTION = tuple(np.sqrt(OF_GROUND * OF_BODIES))
"""Of lander and legs on the ground, each the root of the product of both materials'."""

Point = tuple[Array, Array]


class Polygon(NamedTuple):
    """A convex polygon around its body's origin, counter-clockwise."""

    count: Any
    """Its corners."""
    vertices: Any
    """[6, 2] m: them, and the first ones again."""
    normals: Any
    """[6, 2], outward, of the side behind each vertex."""
    middles: Any
    """[6, 2] m, of these sides."""
    centroid: tuple[Any, Any]
    """m"""
    radius: Any
    """m, from the centroid to the farthest corner."""


class Solid(NamedTuple):
    """A body's constants."""

    polygon: Polygon
    inverse_mass: Any
    """1/kg"""
    inverse_inertia: Any
    """1/(kg m^2)"""
    friction: Any
    """On the ground."""
    is_lander: Any


def _polygon(points: list[tuple[float, float]], centroid: tuple[float, float]) -> Polygon:
    vertices = np.array(points, np.float32)
    after = np.roll(vertices, -1, axis=0)
    sides = after - vertices
    normals = np.stack([sides[:, 1], -sides[:, 0]], axis=1)
    normals = normals * (np.float32(1) / np.sqrt((normals**2).sum(axis=1, keepdims=True)))
    centre = np.array(centroid, np.float32)
    again = np.arange(CORNERS) % len(vertices)
    return Polygon(
        np.int32(len(vertices)),
        vertices[again],
        normals[again],
        (np.float32(0.5) * (vertices + after))[again],
        (centre[0], centre[1]),
        np.sqrt(((vertices - centre) ** 2).sum(axis=1)).max(),
    )


LANDER = _polygon(
    [
        (x / SCALE, y / SCALE)
        for x, y in ((17, -10), (17, 0), (14, 17), (-14, 17), (-17, 0), (-17, -10))
    ],
    (0.0, float(CENTRE)),
)
LEG_HALF = (0.0666666701, 0.266666681)  # m
LEG = _polygon(
    [(x * LEG_HALF[0], y * LEG_HALF[1]) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))],
    (0.0, 0.0),
)


def solid(body: int) -> Solid:
    """One body's: 0 the lander, 1 and 2 the legs."""
    polygon = LEG if body else LANDER
    made_of = (INVERSE_MASS[body], INVERSE_INERTIA[body], FRICTION[body])
    return Solid(polygon, *made_of, np.bool_(body == 0))


SOLIDS: Solid = jax.tree.map(lambda *each: np.stack(each), *(solid(body) for body in range(3)))
"""All three, [3] in front."""


def corners(values: Any) -> list[Point]:
    """The points of an array [6, 2]."""
    points = jnp.asarray(values)
    return [(points[i, 0], points[i, 1]) for i in range(CORNERS)]


def next_corners(polygon: Polygon, points: list[Point]) -> list[Point]:
    """The corner after each, for points that are a polygon's corners."""
    # The last entry of six is a leg's second corner.
    is_leg, first, third = polygon.count < CORNERS, points[0], points[2]
    last = (jnp.where(is_leg, third[0], first[0]), jnp.where(is_leg, third[1], first[1]))
    return [*points[1:], last]
