"""One step of free flight: engines, gravity, joints.  Sources: Gymnasium's LunarLander-v3
(engines, without their dispersion noise) and Box2D 2.3 (the order of a world step).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from muscope.envs.lunar_lander import bodies as rigid
from muscope.envs.lunar_lander import joints
from muscope.envs.lunar_lander.bodies import INVERSE_INERTIA, INVERSE_MASS, SCALE, Bodies
from muscope.envs.lunar_lander.joints import Joints
from muscope.envs.lunar_lander.kernel import kernel

VELOCITY_ITERATIONS = 180
POSITION_ITERATIONS = 60
MAIN_POWER, SIDE_POWER = 13.0, 0.6
MAIN_BELOW = 4 / SCALE  # m
SIDE_AWAY, SIDE_ABOVE, SIDE_OFFSET = 12 / SCALE, 14 / SCALE, 17 / SCALE  # m


def fire(bodies: Bodies, action: Int[Array, ""] | int) -> Bodies:
    """Velocities after an engine's impulse: 0 nothing, 1 left, 2 main, 3 right engine."""
    origin = rigid.origin(bodies)
    # Gymnasium reckons in float64; Box2D is given its results in float32.
    with jax.enable_x64(True):
        x, y, angle = (value.astype(jnp.float64) for value in (*origin, bodies.angle[0]))
        tip_x, tip_y = jnp.sin(angle), jnp.cos(angle)
        main, side = action == 2, (action == 1) | (action == 3)
        direction = jnp.where(action == 1, -SIDE_AWAY, SIDE_AWAY)
        main_x, main_y = tip_x * MAIN_BELOW, -tip_y * MAIN_BELOW
        side_x, side_y = -tip_y * direction, -tip_x * direction
        at_x = jnp.where(main, x + main_x, x + side_x - tip_x * SIDE_OFFSET)
        at_y = jnp.where(main, y + main_y, y + side_y + tip_y * SIDE_ABOVE)
        power = jnp.where(side, SIDE_POWER, 0.0)
        push_x = jnp.where(main, -main_x * MAIN_POWER, -side_x * power)
        push_y = jnp.where(main, -main_y * MAIN_POWER, -side_y * power)
        at_x, at_y, push_x, push_y = (
            value.astype(jnp.float32) for value in (at_x, at_y, push_x, push_y)
        )
    torque = (at_x - bodies.x[0]) * push_y - (at_y - bodies.y[0]) * push_x
    return bodies._replace(
        vx=rigid.replace(bodies.vx, 0, bodies.vx[0] + INVERSE_MASS[0] * push_x),
        vy=rigid.replace(bodies.vy, 0, bodies.vy[0] + INVERSE_MASS[0] * push_y),
        spin=rigid.replace(bodies.spin, 0, bodies.spin[0] + INVERSE_INERTIA[0] * torque),
    )


def fly(bodies: Bodies, leg_joints: Joints, force: Float[Array, "2"]) -> tuple[Bodies, Joints]:
    """One world step of 1/50 s without contacts.

    Args:
        bodies: after :func:`fire`.
        leg_joints: left and right.
        force: N on the lander, the random push of the first step; 0 later.

    """
    bodies = rigid.accelerate(bodies, force)
    bodies, leg_joints, masses = joints.begin(bodies, leg_joints)

    def velocities(carry, masses):
        def iteration(_, carry):
            bodies, leg_joints = carry
            return joints.solve_velocities(bodies, leg_joints, masses)

        return jax.lax.fori_loop(0, VELOCITY_ITERATIONS, iteration, carry)

    bodies, leg_joints = kernel(velocities)((bodies, leg_joints), masses)
    bodies = rigid.together(rigid.move(rigid.each(bodies)))

    def positions(carry):
        bodies, close = joints.solve_positions(carry[0], leg_joints)
        return bodies, carry[1] + 1, close

    def apart(carry):
        return (carry[1] < POSITION_ITERATIONS) & ~carry[2]

    bodies, _, _ = jax.lax.while_loop(apart, positions, (bodies, 0, jnp.array(False)))
    return bodies, leg_joints


def observe(bodies: Bodies) -> Float[Array, "6"]:
    """The first six components of Gymnasium's observation (the others are leg contacts)."""
    x, y = rigid.origin(bodies)
    half_width, half_height = rigid.WIDTH / 2, rigid.HEIGHT / 2
    helipad = rigid.HEIGHT / 4 + rigid.LEG_DOWN
    return jnp.stack(
        [
            (x - half_width) / half_width,
            (y - helipad) / half_height,
            bodies.vx[0] * half_width / 50,
            bodies.vy[0] * half_height / 50,
            bodies.angle[0],
            20.0 * bodies.spin[0] / 50,
        ]
    )
