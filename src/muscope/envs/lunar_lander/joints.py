"""The legs' revolute joints: motor, angle limits and anchor, after Box2D 2.3's solver.

A joint's limit is -1 (at its lower angle), 1 (upper) or 0 (between).  Velocity iterations
accumulate impulses, which warm-start the next step; position iterations push bodies back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander.bodies import (
    CENTRE,
    INVERSE_INERTIA,
    INVERSE_MASS,
    STEP,
    Bodies,
    replace,
    rotate,
)

LINEAR_SLOP = np.float32(0.005)  # m
ANGULAR_SLOP = np.float32(2 / 180 * math.pi)
MOST_CORRECTION = np.float32(8 / 180 * math.pi)  # rad per position iteration
MOTOR_MASS = np.float32(1.0) / (INVERSE_INERTIA[0] + INVERSE_INERTIA[1])
MOST_MOTOR = STEP * np.float32(40.0)  # N m s, the spring's torque over a step
LANDER_ANCHOR = (np.float32(0.0), -CENTRE)  # from the lander's centre of mass


class Leg(NamedTuple):
    """What tells one leg's joint from the other's."""

    body: int
    anchor: tuple[np.float32, np.float32]
    """m, from the leg's centre."""
    reference: np.float32
    """rad, leg less lander at rest."""
    lower: np.float32
    upper: np.float32
    speed: np.float32
    """rad/s that the motor wants."""


def _leg(side: int) -> Leg:
    f = np.float32
    lower, upper = (0.4, 0.9) if side < 0 else (-0.9, -0.4)
    anchor = (f(side * 0.66666669), f(0.60000002))
    return Leg(1 if side < 0 else 2, anchor, f(side * 0.05), f(lower), f(upper), f(side * 0.3))


LEGS = (_leg(-1), _leg(1))


class Joint(NamedTuple):
    """Accumulated impulses of one joint, and its limit's state."""

    x: Float[Array, ""]
    y: Float[Array, ""]
    limit_impulse: Float[Array, ""]
    motor: Float[Array, ""]
    limit: Int[Array, ""]


class Mass(NamedTuple):
    """Lever arms of one step and the symmetric matrix K of point and angle."""

    ax: Float[Array, ""]
    ay: Float[Array, ""]
    bx: Float[Array, ""]
    by: Float[Array, ""]
    xx: Float[Array, ""]
    xy: Float[Array, ""]
    yy: Float[Array, ""]
    xz: Float[Array, ""]
    yz: Float[Array, ""]
    zz: Float[Array, ""]


def start() -> Joint:
    """No impulse, between its limits."""
    zero = jnp.zeros((), jnp.float32)
    return Joint(zero, zero, zero, zero, jnp.zeros((), jnp.int32))


def _arms(bodies: Bodies, leg: Leg) -> tuple[Array, Array, Array, Array]:
    return (
        *rotate(bodies.angle[0], *LANDER_ANCHOR),
        *rotate(bodies.angle[leg.body], *leg.anchor),
    )


def prepare(bodies: Bodies, joint: Joint, leg: Leg) -> tuple[Mass, Joint]:
    """The step's masses, and the joint with its limit's state found anew."""
    ax, ay, bx, by = _arms(bodies, leg)
    m = INVERSE_MASS[0] + INVERSE_MASS[leg.body]
    ia, ib = INVERSE_INERTIA[0], INVERSE_INERTIA[leg.body]
    mass = Mass(
        ax,
        ay,
        bx,
        by,
        xx=m + ay * ay * ia + by * by * ib,
        xy=-ay * ax * ia - by * bx * ib,
        yy=m + ax * ax * ia + bx * bx * ib,
        xz=-ay * ia - by * ib,
        yz=ax * ia + bx * ib,
        zz=jnp.float32(ia + ib),
    )
    angle = bodies.angle[leg.body] - bodies.angle[0] - leg.reference
    limit = jnp.where(angle <= leg.lower, -1, jnp.where(angle >= leg.upper, 1, 0))
    kept = (limit != 0) & (limit == joint.limit)
    impulse = jnp.where(kept, joint.limit_impulse, 0.0)
    return mass, joint._replace(limit_impulse=impulse, limit=limit)


def push(bodies: Bodies, mass: Mass, leg: Leg, x: Array, y: Array, torque: Array) -> Bodies:
    """Velocities after an impulse (x, y) and an angular impulse on the leg, and their opposite
    on the lander.
    """
    i, (ma, mb) = leg.body, (INVERSE_MASS[0], INVERSE_MASS[leg.body])
    ia, ib = INVERSE_INERTIA[0], INVERSE_INERTIA[leg.body]
    turn_a = ia * (mass.ax * y - mass.ay * x + torque)
    turn_b = ib * (mass.bx * y - mass.by * x + torque)
    return bodies._replace(
        vx=replace(replace(bodies.vx, 0, bodies.vx[0] - ma * x), i, bodies.vx[i] + mb * x),
        vy=replace(replace(bodies.vy, 0, bodies.vy[0] - ma * y), i, bodies.vy[i] + mb * y),
        spin=replace(replace(bodies.spin, 0, bodies.spin[0] - turn_a), i, bodies.spin[i] + turn_b),
    )


def warm_start(bodies: Bodies, joint: Joint, mass: Mass, leg: Leg) -> Bodies:
    """Velocities after last step's impulses."""
    return push(bodies, mass, leg, joint.x, joint.y, joint.motor + joint.limit_impulse)


def _solve_point(mass: Mass, x: Array, y: Array) -> tuple[Array, Array]:
    scale = 1.0 / (mass.xx * mass.yy - mass.xy * mass.xy)
    return scale * (mass.yy * x - mass.xy * y), scale * (mass.xx * y - mass.xy * x)


def _solve_all(mass: Mass, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Cramer's rule for the symmetric K, in Box2D's order of cross products."""
    xx, xy, yy, xz, yz, zz = mass[4:]
    cx, cy, cz = yy * zz - yz * yz, yz * xz - xy * zz, xy * yz - yy * xz
    scale = 1.0 / (xx * cx + xy * cy + xz * cz)
    first = scale * (x * cx + y * cy + z * cz)
    bx, by, bz = y * zz - z * yz, z * xz - x * zz, x * yz - y * xz
    second = scale * (xx * bx + xy * by + xz * bz)
    ex, ey, ez = yy * z - yz * y, yz * x - xy * z, xy * y - yy * x
    return first, second, scale * (xx * ex + xy * ey + xz * ez)


def solve_velocity(bodies: Bodies, joint: Joint, mass: Mass, leg: Leg) -> tuple[Bodies, Joint]:
    """One velocity iteration: the motor, then the anchor with the limit if it is reached."""
    i = leg.body
    wanted = joint.motor - MOTOR_MASS * (bodies.spin[i] - bodies.spin[0] - leg.speed)
    motor = jnp.clip(wanted, -MOST_MOTOR, MOST_MOTOR)
    change = motor - joint.motor
    spin = replace(bodies.spin, 0, bodies.spin[0] - INVERSE_INERTIA[0] * change)
    spin = replace(spin, i, bodies.spin[i] + INVERSE_INERTIA[i] * change)
    bodies, joint = bodies._replace(spin=spin), joint._replace(motor=motor)

    gap_x = bodies.vx[i] - spin[i] * mass.by - bodies.vx[0] + spin[0] * mass.ay
    gap_y = bodies.vy[i] + spin[i] * mass.bx - bodies.vy[0] - spin[0] * mass.ax
    full = [-part for part in _solve_all(mass, gap_x, gap_y, spin[i] - spin[0])]
    # A limit only pushes: where it would pull, it lets go and the anchor is solved alone.
    total = joint.limit_impulse + full[2]
    active = joint.limit != 0
    holds = active & jnp.where(joint.limit < 0, total >= 0, total <= 0)
    released = jnp.where(active, joint.limit_impulse, 0.0)
    alone = _solve_point(mass, released * mass.xz - gap_x, released * mass.yz - gap_y)
    x, y = jnp.where(holds, full[0], alone[0]), jnp.where(holds, full[1], alone[1])
    torque = jnp.where(holds, full[2], -released)
    joint = joint._replace(
        x=joint.x + x,
        y=joint.y + y,
        limit_impulse=jnp.where(holds, total, jnp.where(active, 0.0, joint.limit_impulse)),
    )
    return push(bodies, mass, leg, x, y, torque), joint


def solve_position(
    bodies: Bodies, limit: Int[Array, ""], leg: Leg
) -> tuple[Bodies, Bool[Array, ""]]:
    """One position iteration, and whether the joint was close enough before it."""
    i, (ia, ib) = leg.body, (INVERSE_INERTIA[0], INVERSE_INERTIA[leg.body])
    ma, mb = INVERSE_MASS[0], INVERSE_MASS[leg.body]
    angle = bodies.angle[i] - bodies.angle[0] - leg.reference
    below, above = angle - leg.lower, angle - leg.upper
    correction = jnp.where(
        limit < 0,
        jnp.clip(below + ANGULAR_SLOP, -MOST_CORRECTION, 0.0),
        jnp.where(limit > 0, jnp.clip(above - ANGULAR_SLOP, 0.0, MOST_CORRECTION), 0.0),
    )
    error = jnp.where(limit < 0, -below, jnp.where(limit > 0, above, 0.0))
    turn = -MOTOR_MASS * correction
    angles = replace(bodies.angle, 0, bodies.angle[0] - ia * turn)
    bodies = bodies._replace(angle=replace(angles, i, bodies.angle[i] + ib * turn))

    ax, ay, bx, by = _arms(bodies, leg)
    gap_x = bodies.x[i] + bx - bodies.x[0] - ax
    gap_y = bodies.y[i] + by - bodies.y[0] - ay
    xx = ma + mb + ia * ay * ay + ib * by * by
    xy = -ia * ax * ay - ib * bx * by
    yy = ma + mb + ia * ax * ax + ib * bx * bx
    scale = 1.0 / (xx * yy - xy * xy)
    x, y = -scale * (yy * gap_x - xy * gap_y), -scale * (xx * gap_y - xy * gap_x)
    turn_a, turn_b = ia * (ax * y - ay * x), ib * (bx * y - by * x)
    moved = bodies._replace(
        x=replace(replace(bodies.x, 0, bodies.x[0] - ma * x), i, bodies.x[i] + mb * x),
        y=replace(replace(bodies.y, 0, bodies.y[0] - ma * y), i, bodies.y[i] + mb * y),
        angle=replace(
            replace(bodies.angle, 0, bodies.angle[0] - turn_a), i, bodies.angle[i] + turn_b
        ),
    )
    close = jnp.sqrt(gap_x * gap_x + gap_y * gap_y) <= LINEAR_SLOP
    return moved, close & (error <= ANGULAR_SLOP)
