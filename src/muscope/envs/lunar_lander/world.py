"""One whole step of the world: contacts, joints, motion, sleep, times of impact.

Box2D's order: find contacts, accelerate, warm-start, 180 velocity iterations, move, up to 60
position iterations, sleep, new contacts, times of impact.  Box2D solves the right leg's contacts,
then the lander's, then the left leg's; no contact knows of another body's, so any order does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander import bodies as rigid
from muscope.envs.lunar_lander import continuous, flight, joints, solver, touch
from muscope.envs.lunar_lander.bodies import STEP, Bodies, Body
from muscope.envs.lunar_lander.collide import Manifold
from muscope.envs.lunar_lander.contacts import Impulses
from muscope.envs.lunar_lander.joints import Joints
from muscope.envs.lunar_lander.solids import SOLIDS, Solid
from muscope.envs.lunar_lander.touch import Touch, halves, newest, tell

STILL = np.float32(0.01) ** 2  # (m/s)^2
UNTURNED = rigid.ANGULAR_SLOP**2  # (rad/s)^2
SLEEPY = np.float32(0.5)  # s


class World(NamedTuple):
    """Everything a step depends on: a snapshot."""

    bodies: Bodies
    joints: Joints
    touches: Touch
    """Each body's, [3] in front."""
    still: Float[Array, "3"]
    """s, how long each body has been at rest."""
    awake: Bool[Array, ""]
    flags: Bool[Array, "3"]
    """Contacts that Gymnasium was told of: the lander's ever, the left leg's now, the right's."""
    heights: Float[Array, "11"]
    """m, of the terrain every two metres."""


def start(heights: Float[Array, "11"]) -> World:
    """The lander at the top, before its first step."""
    bodies = rigid.start()
    return World(
        bodies,
        (joints.start(), joints.start()),
        jax.vmap(touch.start)(rigid.each(bodies), SOLIDS),
        jnp.zeros(3, jnp.float32),
        jnp.array(True),
        jnp.zeros(3, bool),
        heights,
    )


def settle(world: World, action: Int[Array, ""] | int) -> tuple[World, Bodies]:
    """Fire an engine, then let 1/50 s pass, without times of impact; :func:`impact` adds them.

    Args:
        world: the state before.
        action: 0 nothing, 1 left, 2 main, 3 right engine.

    Returns:
        The world after, and the bodies at the step's beginning.

    """
    bodies = flight.fire(world.bodies, action)
    before = bodies
    given = (world.touches, world.flags)
    touches, flags, manifolds, impulses = _of_each(_meet, bodies, *given, world.heights)
    bodies = rigid.accelerate(bodies)
    bodies, leg_joints, impulses, solved = _solve(bodies, world.joints, manifolds, impulses)

    def kept(touched: Touch, slots: Impulses) -> Touch:
        return touched._replace(impulses=newest(touched, halves(slots)))

    touches = jax.vmap(kept)(touches, impulses)
    bodies, still, awake = sleep(bodies, world.still, solved)
    awake = world.awake & awake
    settled = World(bodies, leg_joints, touches, still, awake, flags, world.heights)
    return renew(settled, before), before


def _meet(
    body: Body, solid: Solid, old: Touch, flag: Bool[Array, ""], heights: Float[Array, "11"]
) -> tuple[Touch, Bool[Array, ""], Manifold, Impulses]:
    """One body's contacts at its present place, what Gymnasium is told of them, and the manifolds
    and impulses of its slots, [2] in front, the newer contact's first.
    """
    touched, was, manifolds = touch.follow(body, solid, old, heights)
    left, right = zip(was, touched.impulses, strict=True)
    for before, now in newest(touched, (left, right)):
        flag = tell(flag, solid, before, now)
    manifolds, impulses = newest(touched, manifolds), newest(touched, touched.impulses)
    return touched, flag, solver.stacked(*manifolds), solver.stacked(*impulses)


def shift(world: World) -> World:
    """The world with contact slots at its bodies' places; see :func:`touch.shift`."""
    shifted = _of_each(touch.shift, world.bodies, world.touches, world.heights)
    return world._replace(touches=shifted)


def renew(world: World, before: Bodies) -> World:
    """The world with the contacts that its bodies' motion makes; see :func:`touch.renew`."""
    given = (rigid.each(before), world.touches, world.heights)
    return world._replace(touches=_of_each(touch.renew, world.bodies, *given))


class Met(NamedTuple):
    """One body, its contacts, and what Gymnasium was told of them; of all three, [3] in front."""

    body: Body
    touched: Touch
    flag: Bool[Array, ""]


def met(world: World) -> Met:
    """All bodies, side by side."""
    return Met(rigid.each(world.bodies), world.touches, world.flags)


def landed(world: World, met: Met) -> World:
    """The world with its bodies as they are in ``met``."""
    bodies = rigid.together(met.body)
    return world._replace(bodies=bodies, touches=met.touched, flags=met.flag)


def impact(met: Met, before: Body, number: Int[Array, ""], heights: Float[Array, "11"]) -> Met:
    """One body after the step's times of impact, which are its own affair.

    Args:
        met: the body at the end of :func:`settle`.
        before: it at the step's beginning; only its place matters.
        number: which one it is.
        heights: of the terrain, m.

    """
    solid = jax.tree.map(lambda values: jnp.asarray(values)[number], SOLIDS)
    return Met(*continuous.advance(met.body, solid, before, met.touched, met.flag, heights))


def may_hit(world: World, before: Bodies) -> Bool[Array, "3"]:
    """Which bodies' :func:`impact` may change anything; never wrongly false."""
    given = (rigid.each(before), world.touches, world.heights)
    return _of_each(continuous.needed, world.bodies, *given)


def _of_each(of_body: Callable[..., Any], bodies: Bodies, *given: Any) -> Any:
    """``of_body(body, solid, ...)`` for all three, with what each is given, and the terrain."""
    axes = (0, 0, *(0 for _ in given[:-1]), None)
    return jax.vmap(of_body, in_axes=axes)(rigid.each(bodies), SOLIDS, *given)


def _solve(
    bodies: Bodies, leg_joints: Joints, manifolds: Manifold, impulses: Impulses
) -> tuple[Bodies, Joints, Impulses, Bool[Array, ""]]:
    """Velocities, then positions; of contacts, [3, 2] in front, all bodies' slots.

    Returns:
        Bodies, joints and impulses, and whether the positions came close enough.

    """
    constraints = solver.prepare(bodies, manifolds, impulses)
    bodies = solver.warm_start(bodies, constraints, impulses)
    bodies, leg_joints, masses = joints.begin(bodies, leg_joints)
    bodies, leg_joints, impulses = solver.velocities(
        bodies, leg_joints, masses, constraints, impulses
    )
    moved = rigid.together(rigid.move(rigid.each(bodies)))
    bodies, solved = solver.positions(moved, leg_joints, manifolds, impulses)
    return bodies, leg_joints, impulses, solved


def sleep(
    bodies: Bodies, still: Float[Array, "3"], solved: Bool[Array, ""]
) -> tuple[Bodies, Float[Array, "3"], Bool[Array, ""]]:
    """Everything falls asleep when all bodies have been at rest for half a second."""
    of_each = rigid.each(bodies)
    speed = of_each.vx * of_each.vx + of_each.vy * of_each.vy
    quiet = (speed <= STILL) & (of_each.spin * of_each.spin <= UNTURNED)
    rests = jnp.where(quiet, still + STEP, 0.0)
    asleep = (jnp.min(rests) >= SLEEPY) & solved
    vx, vy, spin = (jnp.where(asleep, 0.0, value) for value in of_each[3:])
    return rigid.together(of_each._replace(vx=vx, vy=vy, spin=spin)), rests, ~asleep
