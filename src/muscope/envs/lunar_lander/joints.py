"""The legs' revolute joints: motor, angle limits and anchor, after Box2D 2.3's solver.

A joint's limit is -1 (at its lower angle), 1 (upper) or 0 (between).  Velocity iterations
accumulate impulses, which warm-start the next step; position iterations push bodies back.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander.bodies import (
    ANGULAR_SLOP,
    CENTRE,
    INVERSE_INERTIA,
    INVERSE_MASS,
    LINEAR_SLOP,
    STEP,
    Bodies,
    replace,
    rotate,
)
from muscope.envs.lunar_lander.kernel import rounded

MOST_CORRECTION = 4 * ANGULAR_SLOP  # rad per position iteration
TURNING = INVERSE_INERTIA[0] + INVERSE_INERTIA[1]  # 1/(kg m^2), of lander and leg
MOTOR_MASS = np.float32(1.0) / TURNING
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


Joints = tuple[Joint, Joint]
"""The left leg's and the right leg's."""


class Mass(NamedTuple):
    """What a step's velocity iterations need of a joint's geometry; it does not change in them."""

    ax: Float[Array, ""]
    """Lever arms of lander (a) and leg (b), m."""
    ay: Float[Array, ""]
    bx: Float[Array, ""]
    by: Float[Array, ""]
    xz: Float[Array, ""]
    """Of K, the symmetric matrix of point and angle."""
    yz: Float[Array, ""]
    xx: Float[Array, ""]
    xy: Float[Array, ""]
    yy: Float[Array, ""]
    across: tuple[Array, Array, Array]
    """The cross product of K's second and third column."""
    whole: Float[Array, ""]
    """1 / det K."""
    point: Float[Array, ""]
    """1 / det of K without the angle."""
    side: Float[Array, ""]
    """1 at the lower limit, -1 at the upper: the sign of the impulses it can give; else 0."""


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
    xx, xy = m + ay * ay * ia + by * by * ib, -ay * ax * ia - by * bx * ib
    yy, xz, yz = m + ax * ax * ia + bx * bx * ib, -ay * ia - by * ib, ax * ia + bx * ib
    angle = bodies.angle[leg.body] - bodies.angle[0] - leg.reference
    limit = jnp.where(angle <= leg.lower, -1, jnp.where(angle >= leg.upper, 1, 0))
    kept = (limit != 0) & (limit == joint.limit)
    impulse = jnp.where(kept, joint.limit_impulse, 0.0)
    across = (yy * TURNING - yz * yz, yz * xz - xy * TURNING, xy * yz - yy * xz)
    whole = 1.0 / (xx * across[0] + xy * across[1] + xz * across[2])
    point = 1.0 / (xx * yy - xy * xy)
    side = -limit.astype(jnp.float32)
    mass = Mass(ax, ay, bx, by, xz, yz, xx, xy, yy, across, whole, point, side)
    return mass, joint._replace(limit_impulse=impulse, limit=limit)


def _impulse(mass: Mass, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """The p of K p = -(x, y, z), by Cramer's rule in Box2D's order of operations."""
    first = (mass.xx, mass.xy, mass.xz)
    by_third = (y * TURNING - z * mass.yz, z * mass.xz - x * TURNING, x * mass.yz - y * mass.xz)
    second_by = (mass.yy * z - mass.yz * y, mass.yz * x - mass.xy * z, mass.xy * y - mass.yy * x)
    minors = (((x, y, z), mass.across), (first, by_third), (first, second_by))
    px, py, pz = (-(mass.whole * (a[0] * b[0] + a[1] * b[1] + a[2] * b[2])) for a, b in minors)
    return px, py, pz


def push(bodies: Bodies, mass: Mass, leg: Leg, x: Array, y: Array, *torques: Array) -> Bodies:
    """Velocities after an impulse (x, y) and angular impulses on the leg, and their opposites
    on the lander.
    """
    i, (ma, mb) = leg.body, (INVERSE_MASS[0], INVERSE_MASS[leg.body])
    ia, ib = INVERSE_INERTIA[0], INVERSE_INERTIA[leg.body]
    turn_a, turn_b = mass.ax * y - mass.ay * x, mass.bx * y - mass.by * x
    for torque in torques:
        turn_a, turn_b = turn_a + torque, turn_b + torque
    return bodies._replace(
        vx=replace(replace(bodies.vx, 0, bodies.vx[0] - ma * x), i, bodies.vx[i] + mb * x),
        vy=replace(replace(bodies.vy, 0, bodies.vy[0] - ma * y), i, bodies.vy[i] + mb * y),
        spin=replace(
            replace(bodies.spin, 0, bodies.spin[0] - ia * turn_a), i, bodies.spin[i] + ib * turn_b
        ),
    )


def warm_start(bodies: Bodies, joint: Joint, mass: Mass, leg: Leg) -> Bodies:
    """Velocities after last step's impulses."""
    return push(bodies, mass, leg, joint.x, joint.y, joint.motor, joint.limit_impulse)


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
    gap_z = spin[i] - spin[0]
    held_x, held_y, torque = _impulse(mass, gap_x, gap_y, gap_z)
    # A limit only pushes: where it would pull, it lets go and the anchor is solved alone.
    holds = (mass.side != 0) & (mass.side * (joint.limit_impulse + torque) >= 0)
    rest_x = joint.limit_impulse * mass.xz - gap_x
    rest_y = joint.limit_impulse * mass.yz - gap_y
    x = jnp.where(holds, held_x, mass.point * (mass.yy * rest_x - mass.xy * rest_y))
    y = jnp.where(holds, held_y, mass.point * (mass.xx * rest_y - mass.xy * rest_x))
    torque = jnp.where(holds, torque, -joint.limit_impulse)
    joint = joint._replace(x=joint.x + x, y=joint.y + y, limit_impulse=joint.limit_impulse + torque)
    return push(bodies, mass, leg, x, y, torque), joint


def solve_position(
    bodies: Bodies, limit: Int[Array, ""], leg: Leg
) -> tuple[Bodies, Bool[Array, ""]]:
    """One position iteration, and whether the joint was close enough before it."""
    i, (ia, ib) = leg.body, (INVERSE_INERTIA[0], INVERSE_INERTIA[leg.body])
    ma, mb = INVERSE_MASS[0], INVERSE_MASS[leg.body]
    angle = rounded(bodies.angle[i] - bodies.angle[0] - leg.reference)
    below, above = rounded(angle - leg.lower), rounded(angle - leg.upper)
    correction = jnp.where(
        limit < 0,
        jnp.clip(below + ANGULAR_SLOP, -MOST_CORRECTION, 0.0),
        jnp.where(limit > 0, jnp.clip(above - ANGULAR_SLOP, 0.0, MOST_CORRECTION), 0.0),
    )
    error = jnp.where(limit < 0, -below, jnp.where(limit > 0, above, 0.0))
    turn = rounded(-MOTOR_MASS * correction)
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


# Box2D's list of joints has the newest in front: the right leg's.


def begin(bodies: Bodies, leg_joints: Joints) -> tuple[Bodies, Joints, tuple[Mass, Mass]]:
    """Both joints' masses, and velocities after last step's impulses."""
    left_mass, left = prepare(bodies, leg_joints[0], LEGS[0])
    right_mass, right = prepare(bodies, leg_joints[1], LEGS[1])
    bodies = warm_start(bodies, right, right_mass, LEGS[1])
    bodies = warm_start(bodies, left, left_mass, LEGS[0])
    return bodies, (left, right), (left_mass, right_mass)


def solve_velocities(
    bodies: Bodies, leg_joints: Joints, masses: tuple[Mass, Mass]
) -> tuple[Bodies, Joints]:
    """One velocity iteration of both joints."""
    bodies, right = solve_velocity(bodies, leg_joints[1], masses[1], LEGS[1])
    bodies, left = solve_velocity(bodies, leg_joints[0], masses[0], LEGS[0])
    return bodies, (left, right)


def solve_positions(bodies: Bodies, leg_joints: Joints) -> tuple[Bodies, Bool[Array, ""]]:
    """One position iteration of both joints, and whether both were close enough."""
    bodies, right_close = solve_position(bodies, leg_joints[1].limit, LEGS[1])
    bodies, left_close = solve_position(bodies, leg_joints[0].limit, LEGS[0])
    return bodies, right_close & left_close
