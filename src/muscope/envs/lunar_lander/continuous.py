"""Box2D's time-of-impact step: a body that would pass into the ground within a world step is
taken back to the moment of impact, solved there alone, without joints, and moved on.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander import contacts, touch
from muscope.envs.lunar_lander.bodies import LINEAR_SLOP, STEP, Body
from muscope.envs.lunar_lander.impact import Sweep, stays_clear, time_of_impact
from muscope.envs.lunar_lander.solids import Solid
from muscope.envs.lunar_lander.touch import Touch, choose, tell

VELOCITY_ITERATIONS = 180
POSITION_ITERATIONS = 20
MOST_EVENTS = 8  # a contact whose time came more often in a step is left alone
LATEST = np.float32(1.0 - 10 * 1.1920929e-7)
BAUMGARTE = np.float32(0.75)
CLOSE_ENOUGH = np.float32(-1.5) * LINEAR_SLOP  # m


class _Course(NamedTuple):
    """A body within one world step."""

    events: tuple[Int[Array, ""], Int[Array, ""]]
    """How often each contact's time has come."""
    more: Bool[Array, ""]
    body: Body
    """At the end of the step."""
    before: Body
    """At the time ``since``; only its place matters."""
    since: Array
    """0 to 1."""
    touched: Touch
    flag: Bool[Array, ""]
    off: tuple[Array, Array]
    """Contacts that did not touch at their time of impact: left alone until they are updated."""


def advance(
    body: Body,
    solid: Solid,
    before: Body,
    touched: Touch,
    flag: Bool[Array, ""],
    heights: Float[Array, "11"],
) -> tuple[Body, Touch, Bool[Array, ""]]:
    """One body after its times of impact within this step.

    Args:
        body: at the end of the step.
        solid: what it is made of.
        before: at the step's beginning.
        touched: its contacts.
        flag: what Gymnasium was told of its contacts.
        heights: of the terrain, m.

    """
    numbers = jnp.stack([touched.left, touched.left + 1])

    def times(course: _Course) -> tuple[Array, Array]:
        sweep = _sweep(course.body, course.before)

        def time_of_edge(number: Array, off: Array) -> Array:
            ends = touch.edge(heights, number)
            impact = time_of_impact(solid.polygon, sweep, *ends)
            hit = impact.touching & touch.exists(number) & ~off
            at = course.since + (1.0 - course.since) * impact.time
            return jnp.where(hit, at, 1.0)

        left_alone = [
            off | (events > MOST_EVENTS)
            for off, events in zip(course.off, course.events, strict=True)
        ]
        return touch.halves(jax.vmap(time_of_edge)(numbers, jnp.stack(left_alone)))

    def event(course: _Course) -> _Course:
        left_time, right_time = times(course)
        # Of equal times the newer contact's counts.
        newer = course.touched.right_first
        right = (right_time < left_time) | (newer & (right_time == left_time))
        time = jnp.minimum(left_time, right_time)
        happens = time <= LATEST
        part = (time - course.since) / (1.0 - course.since)
        end, places = course.body, {}
        for name in ("x", "y", "angle"):
            first, last = getattr(course.before, name), getattr(end, name)
            places[name] = (1.0 - part) * first + part * last
        back = end._replace(**places)
        manifolds = touch.manifolds(back, solid, touched.left, heights)
        left_old, right_old = course.touched.impulses
        matched = (contacts.match(manifolds[0], left_old), contacts.match(manifolds[1], right_old))
        real = jnp.where(right, touch.touching(matched[1]), touch.touching(matched[0]))
        goes = happens & real
        # The contact that hits is solved first.
        there, after = _solve_alone(
            back,
            solid,
            choose(right, manifolds[::-1], manifolds),
            choose(right, matched[::-1], matched),
            time,
            goes,
        )
        updated = (goes | (happens & ~right), goes | (happens & right))

        slots = tuple(zip(course.touched.impulses, matched, updated, strict=True))
        flag = course.flag
        # The contact that hits is told of first.
        for old, new, changes in (choose(right, *slots[::-1]), choose(right, *slots)):
            flag = jnp.where(changes, tell(flag, solid, old, new), flag)
        kept = tuple(choose(u, new, old) for old, new, u in slots)
        missed = happens & ~real
        updated_touch = course.touched._replace(impulses=(kept[0], kept[1]))
        renewed = touch.renew(after, solid, there, updated_touch, heights)
        return _Course(
            (course.events[0] + (happens & ~right), course.events[1] + (happens & right)),
            happens,
            choose(goes, after, end),
            choose(goes, there, course.before),
            jnp.where(goes, time, course.since),
            choose(goes, renewed, updated_touch),
            flag,
            # A contact that is updated counts again.
            (
                (course.off[0] & ~goes) | (missed & ~right),
                (course.off[1] & ~goes) | (missed & right),
            ),
        )

    no = jnp.zeros((), bool)
    begin = _Course(
        (jnp.int32(0), jnp.int32(0)),
        jnp.ones((), bool),
        body,
        before,
        jnp.float32(0.0),
        touched,
        flag,
        (no, no),
    )
    course = jax.lax.while_loop(lambda course: course.more, event, begin)
    return course.body, course.touched, course.flag


def _solve_alone(
    body: Body, solid: Solid, manifolds: tuple, matched: tuple, time: Array, goes: Array
) -> tuple[Body, Body]:
    """The body freed from the ground at the time of impact, and at the end of the step."""
    zero = jnp.float32(0.0)
    fresh = tuple(m._replace(normal=(zero, zero), tangent=(zero, zero)) for m in matched)

    def positions(carry):
        body, close = carry[0], jnp.array(True)
        for slot in zip(manifolds, fresh, strict=True):
            body, fine = contacts.solve_position(body, solid, *slot, BAUMGARTE, CLOSE_ENOUGH)
            close &= fine
        return body, carry[1] + 1, close

    def apart(carry):
        return (carry[1] < POSITION_ITERATIONS) & ~carry[2]

    there, _, _ = jax.lax.while_loop(apart, positions, (body, 0, ~goes))
    constraints = tuple(
        contacts.prepare(there, solid, *slot) for slot in zip(manifolds, fresh, strict=True)
    )

    def velocities(carry):
        count, _, now, (first, second) = carry
        now, first = contacts.solve_velocity(now, solid, constraints[0], first)
        now, second = contacts.solve_velocity(now, solid, constraints[1], second)
        solved = (now, (first, second))
        return count + 1, _equal(solved, carry[2:]), *solved

    def changing(carry):
        # Once an iteration changes no bit, none of the rest will.
        return (carry[0] < VELOCITY_ITERATIONS) & ~carry[1]

    after = jax.lax.while_loop(changing, velocities, (0, ~goes, there, fresh))[2]
    left = (1.0 - time) * STEP
    after = after._replace(
        x=after.x + left * after.vx,
        y=after.y + left * after.vy,
        angle=after.angle + left * after.spin,
    )
    return there, after


def _equal(a: Any, b: Any) -> Bool[Array, ""]:
    """Whether two structures are the same in every bit."""
    same = [jnp.all(x == y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    return functools.reduce(jnp.logical_and, same)


def needed(
    body: Body, solid: Solid, before: Body, touched: Touch, heights: Float[Array, "11"]
) -> Bool[Array, ""]:
    """Whether a body may have a time of impact within this step; see :func:`advance`."""
    sweep = _sweep(body, before)

    def may_hit(number: Array) -> Array:
        ends = touch.edge(heights, number)
        clear = stays_clear(solid.polygon, sweep, *ends)
        return touch.exists(number) & ~clear

    return jnp.any(jax.vmap(may_hit)(jnp.stack([touched.left, touched.left + 1])))


def _sweep(body: Body, before: Body) -> Sweep:
    return Sweep(*before[:3], *body[:3])
