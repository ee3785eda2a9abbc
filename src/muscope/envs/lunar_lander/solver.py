"""Velocities and positions of bodies with joints and with contacts, after Box2D 2.3's solver.

The ground has no mass, so contacts of different bodies do not know of each other: those of both
legs are solved side by side, in two *kinds* (of the lander, of the legs) instead of three bodies.
A body has two slots for contacts, which are solved one after the other, the newer in front.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from muscope.envs.lunar_lander import contacts, joints
from muscope.envs.lunar_lander.bodies import Bodies, Motion, mirrored, motion, moving
from muscope.envs.lunar_lander.flight import POSITION_ITERATIONS, VELOCITY_ITERATIONS
from muscope.envs.lunar_lander.joints import Joints, Mass
from muscope.envs.lunar_lander.kernel import for_lanes, kernel, of_one_lane
from muscope.envs.lunar_lander.touch import halves

Kinds = tuple[Any, Any]
"""What the lander has, [2] slots, and what the legs have, [2] legs of [2] slots."""


def stacked(*values: Any) -> Any:
    """Structures side by side, along a new axis in front."""
    return jax.tree.map(lambda *x: jnp.stack(x), *values)


def kinds(lander: Any, left: Any, right: Any) -> Kinds:
    """What the three bodies have, by kind."""
    return lander, stacked(left, right)


def of_kinds(of_slot: Callable[..., Any], bodies: Bodies, *values: Kinds) -> Kinds:
    """``of_slot(bodies, body, *values of a slot)`` for every slot of every body; for a leg, the
    bodies are given such that it is body 1.
    """

    def of_body(body: int, bodies: Bodies, *slots: Any) -> Any:
        return jax.vmap(functools.partial(of_slot, bodies, body))(*slots)

    lander, legs = zip(*values, strict=True)
    views = stacked(bodies, mirrored(bodies))
    return of_body(0, bodies, *lander), jax.vmap(functools.partial(of_body, 1))(views, *legs)


def slot(of_kind: Kinds, body: int, number: int) -> Any:
    """What one slot of a body has."""
    place = (number,) if body == 0 else (body - 1, number)
    return jax.tree.map(lambda x: x[place], of_kind[body > 0])


def warm_start(bodies: Bodies, constraints: Kinds, impulses: Kinds) -> Bodies:
    """Velocities after last step's impulses at the ground."""
    for body in range(3):
        moved = motion(bodies, body)
        for number in (0, 1):
            c, i = slot(constraints, body, number), slot(impulses, body, number)
            moved = contacts.warm_start(moved, body, c, i)
        bodies = moving(bodies, body, moved)
    return bodies


def velocities(
    bodies: Bodies,
    leg_joints: Joints,
    masses: tuple[Mass, Mass],
    constraints: Kinds,
    impulses: Kinds,
) -> tuple[Bodies, Joints, Kinds]:
    """All velocity iterations: in each the joints, then the contacts."""
    return of_one_lane(_velocities, bodies, leg_joints, masses, constraints, impulses)


@for_lanes
def _velocities(bodies, leg_joints, masses, constraints, impulses):
    # [2 slots, L] of the lander, [2 slots, 2 legs, L] of the legs.
    constraints, impulses = jax.tree.map(jnp.transpose, (constraints, impulses))

    def loop(carry, masses, constraints, counts):
        def iteration(_, carry):
            bodies, leg_joints, (lander, legs) = carry
            bodies, leg_joints = jax.vmap(joints.solve_velocities)(bodies, leg_joints, masses)
            of_lander, of_legs = jax.vmap(_motions, out_axes=(0, 1))(bodies)
            of_lander, lander = _solve_slots(0, of_lander, constraints[0], lander, counts[0])
            of_legs, legs = _solve_slots(1, of_legs, constraints[1], legs, counts[1])
            bodies = jax.vmap(_moving, in_axes=(0, 0, 1))(bodies, of_lander, of_legs)
            return bodies, leg_joints, (lander, legs)

        return jax.lax.fori_loop(0, VELOCITY_ITERATIONS, iteration, carry)

    counts = tuple(_needed(c.solved) for c in constraints)
    carry = (bodies, leg_joints, impulses)
    bodies, leg_joints, impulses = kernel(loop)(carry, masses, constraints, counts)
    return bodies, leg_joints, jax.tree.map(jnp.transpose, impulses)


def _motions(bodies: Bodies) -> Kinds:
    return motion(bodies, 0), stacked(motion(bodies, 1), motion(bodies, 2))


def _moving(bodies: Bodies, of_lander: Motion, of_legs: Motion) -> Bodies:
    for body, moved in enumerate((of_lander, *halves(of_legs))):
        bodies = moving(bodies, body, moved)
    return bodies


def _needed(solved: Int[Array, "2 ..."]) -> Int[Array, ""] | int:
    """Slots up to the last with a contact in any lane.  An empty slot changes nothing, so no lane
    depends on what others need.  Off the CPU it is always two: a number that the compiler knows.
    """
    if jax.default_backend() != "cpu":
        return 2
    used = jnp.any(solved > 0, axis=tuple(range(1, solved.ndim)))
    return jnp.max(jnp.where(used, jnp.arange(1, 3), 0))


def _solve_slots(
    body: int, moved: Motion, constraints: Any, impulses: Any, count: Int[Array, ""] | int
) -> tuple[Motion, Any]:
    """One velocity iteration of the first ``count`` slots of a kind."""

    def solve(number, carry):
        moved, impulses = carry
        c, i = jax.tree.map(lambda x: x[number], (constraints, impulses))
        of_contact = contacts.solve_velocity
        for _ in range(i.ids[0].ndim):
            of_contact = jax.vmap(of_contact, in_axes=(0, None, 0, 0))
        moved, i = of_contact(moved, body, c, i)
        return moved, jax.tree.map(lambda all_, new: all_.at[number].set(new), impulses, i)

    return jax.lax.fori_loop(0, count, solve, (moved, impulses))


def positions(
    bodies: Bodies, leg_joints: Joints, manifolds: Kinds, impulses: Kinds
) -> tuple[Bodies, Bool[Array, ""]]:
    """Position iterations, until joints and contacts are close enough; whether they came to be."""

    def iteration(carry):
        bodies, close = carry[0], jnp.array(True)
        for body in (2, 0, 1):
            for number in (0, 1):
                m, i = slot(manifolds, body, number), slot(impulses, body, number)
                bodies, fine = contacts.solve_position(bodies, body, m, i)
                close &= fine
        bodies, fine = joints.solve_positions(bodies, leg_joints)
        return bodies, carry[1] + 1, close & fine

    def apart(carry):
        return (carry[1] < POSITION_ITERATIONS) & ~carry[2]

    bodies, _, close = jax.lax.while_loop(apart, iteration, (bodies, 0, jnp.array(False)))
    return bodies, close
