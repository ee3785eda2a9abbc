"""One whole step of the world: contacts, joints, motion, sleep, times of impact.

Box2D's order: find contacts, accelerate, warm-start, 180 velocity iterations, move, up to 60
position iterations, sleep, new contacts, times of impact.  Box2D solves the right leg's contacts,
then the lander's, then the left leg's; no contact knows of another body's, so any order does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander import bodies as rigid
from muscope.envs.lunar_lander import contacts, continuous, flight, joints, solver, touch
from muscope.envs.lunar_lander.bodies import STEP, Bodies
from muscope.envs.lunar_lander.joints import Joints
from muscope.envs.lunar_lander.touch import Touch, halves, newest, tell

STILL = np.float32(0.01) ** 2  # (m/s)^2
UNTURNED = rigid.ANGULAR_SLOP**2  # (rad/s)^2
SLEEPY = np.float32(0.5)  # s


class World(NamedTuple):
    """Everything a step depends on: a snapshot."""

    bodies: Bodies
    joints: Joints
    touches: tuple[Touch, Touch, Touch]
    still: tuple[Array, Array, Array]
    """s, how long each body has been at rest."""
    awake: Bool[Array, ""]
    flags: tuple[Array, Array, Array]
    """Contacts that Gymnasium was told of: the lander's ever, the left leg's now, the right's."""
    heights: Float[Array, "11"]
    """m, of the terrain every two metres."""


def start(heights: Float[Array, "11"]) -> World:
    """The lander at the top, before its first step."""
    zero, no = jnp.zeros((), jnp.float32), jnp.zeros((), bool)
    bodies = rigid.start()
    return World(
        bodies,
        (joints.start(), joints.start()),
        (touch.start(bodies, 0), touch.start(bodies, 1), touch.start(bodies, 2)),
        (zero, zero, zero),
        ~no,
        (no, no, no),
        heights,
    )


def settle(world: World, action: Int[Array, ""] | int) -> tuple[World, Bodies]:
    """Fire an engine, then let 1/50 s pass, without times of impact; :func:`impacts` adds them.

    Args:
        world: the state before.
        action: 0 nothing, 1 left, 2 main, 3 right engine.

    Returns:
        The world after, and the bodies at the step's beginning.

    """
    bodies = flight.fire(world.bodies, action)
    before = bodies

    def follow(body, bodies, old):
        return touch.follow(bodies, body, old, world.heights)

    touches, previous, manifolds = zip(
        *_of_each(follow, _views(bodies), world.touches), strict=True
    )
    flags: Any = list(world.flags)
    for body, (touched, was) in enumerate(zip(touches, previous, strict=True)):
        left, right = zip(was, touched.impulses, strict=True)
        for old, new in newest(touched, (left, right)):
            flags[body] = tell(flags[body], body, old, new)

    bodies = rigid.accelerate(bodies)
    bodies, leg_joints, impulses, solved = _solve(bodies, world.joints, touches, manifolds)
    touches = tuple(t._replace(impulses=i) for t, i in zip(touches, impulses, strict=True))
    bodies, still, awake = sleep(bodies, world.still, solved)
    awake = world.awake & awake
    settled = World(bodies, leg_joints, touches, still, awake, tuple(flags), world.heights)
    return renew(settled, before), before


def shift(world: World) -> World:
    """The world with contact slots at its bodies' places; see :func:`touch.shift`."""

    def shifted(body, bodies, touched):
        return touch.shift(bodies, body, touched, world.heights)

    return world._replace(touches=_of_each(shifted, _views(world.bodies), world.touches))


def renew(world: World, before: Bodies) -> World:
    """The world with the contacts that its bodies' motion makes; see :func:`touch.renew`."""

    def renewed(body, bodies, before, touched):
        return touch.renew(bodies, body, before, touched, world.heights)

    touches = _of_each(renewed, _views(world.bodies), _views(before), world.touches)
    return world._replace(touches=touches)


def impacts(world: World, before: Bodies) -> World:
    """The world after the step's times of impact.

    Args:
        world: at the end of :func:`settle`.
        before: its bodies at the step's beginning; only their places matter.

    """

    def advance(body, bodies, before, touched, flag):
        return continuous.advance(bodies, body, before, touched, world.heights, flag)

    ended = _of_each(advance, _views(world.bodies), _views(before), world.touches, world.flags)
    moved, touches, flags = zip(*ended, strict=True)
    lander, left, right = moved
    bodies = Bodies(*((a[0], b[1], c[1]) for a, b, c in zip(lander, left, right, strict=True)))
    return world._replace(bodies=bodies, touches=touches, flags=flags)


def may_hit(world: World, before: Bodies) -> Bool[Array, ""]:
    """Whether :func:`impacts` may change anything; never wrongly false."""

    def needed(body, bodies, before, touched):
        return continuous.needed(bodies, body, before, touched, world.heights)

    lander, left, right = _of_each(needed, _views(world.bodies), _views(before), world.touches)
    return lander | left | right


def _views(bodies: Bodies) -> tuple[Bodies, Bodies, Bodies]:
    """What each body's own part of a step is given: either leg is body 1 of what it sees."""
    return bodies, bodies, rigid.mirrored(bodies)


def _of_each(
    of_one_body: Callable[..., Any], *values: tuple[Any, Any, Any]
) -> tuple[Any, Any, Any]:
    """``of_one_body(body, *values of that body)`` for the lander, and both legs side by side."""
    lander, left, right = zip(*values, strict=True)
    legs = solver.stacked(left, right)
    return of_one_body(0, *lander), *halves(jax.vmap(functools.partial(of_one_body, 1))(*legs))


def _solve(
    bodies: Bodies, leg_joints: Joints, touches: Sequence[Touch], manifolds_of: Sequence[Any]
) -> tuple[Bodies, Joints, list[Any], Bool[Array, ""]]:
    """Velocities, then positions.

    Returns:
        Bodies and joints, per body the impulses of its two slots, and whether the positions
        came close enough.

    """

    def newest_first(slots: Sequence[Any]) -> solver.Kinds:
        ordered = (newest(touched, pair) for touched, pair in zip(touches, slots, strict=True))
        return solver.kinds(*(solver.stacked(*pair) for pair in ordered))

    manifolds = newest_first(manifolds_of)
    impulses = newest_first([touched.impulses for touched in touches])
    constraints = solver.of_kinds(contacts.prepare, bodies, manifolds, impulses)
    bodies = solver.warm_start(bodies, constraints, impulses)
    bodies, leg_joints, masses = joints.begin(bodies, leg_joints)
    bodies, leg_joints, impulses = solver.velocities(
        bodies, leg_joints, masses, constraints, impulses
    )
    bodies, solved = solver.positions(rigid.move(bodies), leg_joints, manifolds, impulses)
    of_bodies = (impulses[0], *halves(impulses[1]))
    kept = [newest(t, halves(slots)) for t, slots in zip(touches, of_bodies, strict=True)]
    return bodies, leg_joints, kept, solved


def sleep(
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
