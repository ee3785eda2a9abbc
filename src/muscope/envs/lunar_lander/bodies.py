"""The three bodies, their constants, and how Box2D 2.3 moves them.

Body 0 is the lander, 1 and 2 are the legs.  Quantities are per body, as Python tuples of
scalars: engines and joints are unrolled over the bodies, and ``jax.vmap`` makes the lanes.  What
a body does by itself is written for one :class:`Body`, and ``jax.vmap`` makes the three.
Positions are centres of mass.

The package follows Box2D's order of operations, with constants rounded as there, unless a module
says otherwise.  Where XLA does not fuse products and sums (``XLA_FLAGS=--xla_cpu_max_isa=AVX``
on x86-64), every step that was compared is equal to Box2D's in every bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from muscope.envs.lunar_lander.kernel import rounded

SCALE = 30.0  # pixels per metre
WIDTH, HEIGHT = 600 / SCALE, 400 / SCALE  # m, of the viewport
STEP = np.float32(1 / 50)  # s
GRAVITY = np.float32(-10.0)  # m/s^2
LEG_AWAY, LEG_DOWN = 20 / SCALE, 18 / SCALE  # m
LEG_TILT = 0.05  # rad

INVERSE_MASS = (np.float32(0.207612455), np.float32(14.0624981), np.float32(14.0624981))  # 1/kg
INVERSE_INERTIA = (np.float32(1.27570426), np.float32(558.363831), np.float32(558.363831))
CENTRE = np.float32(0.101307191)  # m, the lander's centre of mass above its origin
PI = np.float32(math.pi)
MOST_TRANSLATION = np.float32(2.0)  # m per step
MOST_ROTATION = PI / 2  # rad per step
LINEAR_SLOP = np.float32(0.005)  # m
ANGULAR_SLOP = np.float32(2) / np.float32(180) * PI  # rad, rounded as Box2D does

Number = float | np.floating | Array
Scalars = tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]


class Bodies(NamedTuple):
    """Position (m), angle (rad) and velocities of lander, left and right leg."""

    x: Scalars
    y: Scalars
    angle: Scalars
    vx: Scalars
    vy: Scalars
    spin: Scalars


def rotate(angle: Float[Array, ""], x: Number, y: Number) -> tuple[Array, Array]:
    """The vector (x, y) turned by ``angle``."""
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    return cos * x - sin * y, sin * x + cos * y


def replace(values: Scalars, body: int, value: Array) -> Scalars:
    """``values`` with one body's changed."""
    changed = list(values)
    changed[body] = value
    return (changed[0], changed[1], changed[2])


class Body(NamedTuple):
    """One body's part of :class:`Bodies`; of all three, with [3] in front."""

    x: Array
    y: Array
    angle: Array
    vx: Array
    vy: Array
    spin: Array


def each(bodies: Bodies) -> Body:
    """The three, side by side."""
    return Body(*(jnp.stack(values) for values in bodies))


def together(of_each: Body) -> Bodies:
    """What :func:`each` took apart."""
    return Bodies(*((values[0], values[1], values[2]) for values in of_each))


def origin(bodies: Bodies) -> tuple[Array, Array]:
    """The lander's origin, which is what an observation shows."""
    dx, dy = rotate(bodies.angle[0], 0.0, CENTRE)
    return bodies.x[0] - dx, bodies.y[0] - dy


def start() -> Bodies:
    """At the top of the viewport, at rest."""
    zero = jnp.zeros((), jnp.float32)
    middle, top = jnp.float32(WIDTH / 2), jnp.float32(HEIGHT)
    return Bodies(
        x=(middle, jnp.float32(WIDTH / 2 + LEG_AWAY), jnp.float32(WIDTH / 2 - LEG_AWAY)),
        y=(top + CENTRE, top, top),
        angle=(zero, jnp.float32(-LEG_TILT), jnp.float32(LEG_TILT)),
        vx=(zero, zero, zero),
        vy=(zero, zero, zero),
        spin=(zero, zero, zero),
    )


def accelerate(bodies: Bodies, force: Float[Array, "2"] | None = None) -> Bodies:
    """Gravity on all bodies and a force (N) on the lander's centre, over one step."""
    force = jnp.zeros(2) if force is None else force
    pull = INVERSE_MASS[0] * force
    vx = replace(bodies.vx, 0, bodies.vx[0] + STEP * pull[0])
    down = [v + STEP * GRAVITY for v in bodies.vy[1:]]
    vy = (bodies.vy[0] + STEP * (GRAVITY + pull[1]), down[0], down[1])
    return bodies._replace(vx=vx, vy=vy)


def move(body: Body) -> Body:
    """A body after one step at its velocities, which are capped first; of all three, too."""
    dx, dy, turn = (STEP * v for v in body[3:])
    far = dx * dx + dy * dy
    slower = jnp.where(
        far > MOST_TRANSLATION**2,
        MOST_TRANSLATION / rounded(jnp.sqrt(jnp.maximum(far, 1e-12))),
        1.0,
    )
    steadier = jnp.where(turn * turn > MOST_ROTATION**2, MOST_ROTATION / jnp.abs(turn), 1.0)
    vx, vy, spin = body.vx * slower, body.vy * slower, body.spin * steadier
    x, y, angle = (p + STEP * v for p, v in zip(body[:3], (vx, vy, spin), strict=True))
    return Body(x, y, angle, vx, vy, spin)
