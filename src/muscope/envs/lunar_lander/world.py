"""One whole step of the world: contacts, joints, motion, sleep, times of impact.

Box2D's order: find contacts, accelerate, warm-start, 180 velocity iterations, move, up to 60
position iterations, sleep, times of impact.  Contacts are solved right leg first, then the
lander, then the left leg, as Box2D's lists have them.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander import bodies as rigid
from muscope.envs.lunar_lander import contacts, continuous, flight, joints, touch
from muscope.envs.lunar_lander.bodies import STEP, Bodies
from muscope.envs.lunar_lander.flight import POSITION_ITERATIONS, VELOCITY_ITERATIONS, Joints
from muscope.envs.lunar_lander.joints import LEGS
from muscope.envs.lunar_lander.touch import Flags, Touch, newest_first, tell

ORDER = (2, 0, 1)  # bodies in the order in which their contacts are solved
STILL = np.float32(0.01**2)  # (m/s)^2
UNTURNED = np.float32((2 / 180 * np.pi) ** 2)  # (rad/s)^2
SLEEPY = np.float32(0.5)  # s


class World(NamedTuple):
    """Everything a step depends on: a snapshot."""

    bodies: Bodies
    joints: Joints
    touches: tuple[Touch, Touch, Touch]
    still: tuple[Array, Array, Array]
    """s, how long each body has been at rest."""
    awake: Bool[Array, ""]
    flags: Flags
    heights: Float[Array, "11"]
    """m, of the terrain every two metres."""


def start(heights: Float[Array, "11"]) -> World:
    """The lander at the top, before its first step."""
    zero, no = jnp.zeros((), jnp.float32), jnp.zeros((), bool)
    return World(
        rigid.start(),
        (joints.start(), joints.start()),
        (touch.start(),) * 3,
        (zero, zero, zero),
        ~no,
        (no, no, no),
        heights,
    )


def step(world: World, action: Int[Array, ""] | int, force: Float[Array, "2"]) -> World:
    """Fire an engine, then let 1/50 s pass.

    Args:
        world: the state before.
        action: 0 nothing, 1 left, 2 main, 3 right engine.
        force: N on the lander, the random push of the first step; 0 later.

    """
    bodies = flight.fire(world.bodies, action)
    before, flags = bodies, world.flags
    touches, found = [], []
    for body, old in enumerate(world.touches):
        touched, previous, manifolds = touch.follow(bodies, body, old, world.heights)

        def told(flags, slot, body=body):
            return tell(flags, body, *slot), slot

        slots = tuple(zip(previous, touched.impulses, strict=True))
        flags, _ = newest_first(touched.right_first, told, flags, slots)
        touches.append(touched)
        found.append(manifolds)

    bodies = rigid.accelerate(bodies, force)
    bodies, both, solved = _solve(bodies, world.joints, touches, found)
    bodies, still, awake = _sleep(bodies, world.still, solved)
    for body in range(3):
        bodies, touches[body], flags = continuous.advance(
            bodies, body, before, touches[body], world.heights, flags
        )
    return World(
        bodies,
        both,
        (touches[0], touches[1], touches[2]),
        still,
        world.awake & awake,
        flags,
        world.heights,
    )


def _solve(
    bodies: Bodies, both: Joints, touches: list[Touch], found: list
) -> tuple[Bodies, Joints, Bool[Array, ""]]:
    """Velocities, then positions; ``touches`` get their new impulses."""
    constraints = [
        tuple(
            contacts.prepare(bodies, body, manifold, impulses)
            for manifold, impulses in zip(found[body], touches[body].impulses, strict=True)
        )
        for body in range(3)
    ]
    for body in ORDER:

        def warm(bodies, slot, body=body):
            return contacts.warm_start(bodies, body, *slot), slot

        slots = tuple(zip(constraints[body], touches[body].impulses, strict=True))
        bodies, _ = newest_first(touches[body].right_first, warm, bodies, slots)
    left_mass, left = joints.prepare(bodies, both[0], LEGS[0])
    right_mass, right = joints.prepare(bodies, both[1], LEGS[1])
    bodies = joints.warm_start(bodies, right, right_mass, LEGS[1])
    bodies = joints.warm_start(bodies, left, left_mass, LEGS[0])

    def velocities(_, carry):
        bodies, left, right, impulses = carry
        bodies, right = joints.solve_velocity(bodies, right, right_mass, LEGS[1])
        bodies, left = joints.solve_velocity(bodies, left, left_mass, LEGS[0])
        solved = list(impulses)
        for body in ORDER:

            def solve(bodies, slot, body=body):
                bodies, changed = contacts.solve_velocity(bodies, body, *slot)
                return bodies, (slot[0], changed)

            slots = tuple(zip(constraints[body], impulses[body], strict=True))
            bodies, slots = newest_first(touches[body].right_first, solve, bodies, slots)
            solved[body] = (slots[0][1], slots[1][1])
        return bodies, left, right, tuple(solved)

    carry = (bodies, left, right, tuple(touched.impulses for touched in touches))
    carry = jax.lax.fori_loop(0, VELOCITY_ITERATIONS, velocities, carry)
    bodies, left, right, impulses = carry
    for body in range(3):
        touches[body] = touches[body]._replace(impulses=impulses[body])
    bodies = rigid.move(bodies)

    def positions(carry):
        bodies, count, _ = carry
        close = jnp.array(True)
        for body in ORDER:

            def solve(state, slot, body=body):
                bodies, close = state
                bodies, fine = contacts.solve_position(bodies, body, *slot)
                return (bodies, close & fine), slot

            slots = tuple(zip(found[body], impulses[body], strict=True))
            right_first = touches[body].right_first
            (bodies, close), _ = newest_first(right_first, solve, (bodies, close), slots)
        bodies, right_close = joints.solve_position(bodies, right.limit, LEGS[1])
        bodies, left_close = joints.solve_position(bodies, left.limit, LEGS[0])
        return bodies, count + 1, close & right_close & left_close

    def apart(carry):
        return (carry[1] < POSITION_ITERATIONS) & ~carry[2]

    bodies, _, solved = jax.lax.while_loop(apart, positions, (bodies, 0, jnp.array(False)))
    return bodies, (left, right), solved


def _sleep(
    bodies: Bodies, still: tuple[Array, Array, Array], solved: Bool[Array, ""]
) -> tuple[Bodies, tuple[Array, Array, Array], Bool[Array, ""]]:
    """Everything falls asleep when all bodies have been at rest for half a second."""
    rests = []
    for i in range(3):
        speed = bodies.vx[i] * bodies.vx[i] + bodies.vy[i] * bodies.vy[i]
        quiet = (speed <= STILL) & (bodies.spin[i] * bodies.spin[i] <= UNTURNED)
        rests.append(jnp.where(quiet, still[i] + STEP, 0.0))
    asleep = (functools.reduce(jnp.minimum, rests) >= SLEEPY) & solved

    def stopped(values):
        a, b, c = (jnp.where(asleep, 0.0, value) for value in values)
        return (a, b, c)

    bodies = bodies._replace(
        vx=stopped(bodies.vx), vy=stopped(bodies.vy), spin=stopped(bodies.spin)
    )
    return bodies, (rests[0], rests[1], rests[2]), ~asleep
