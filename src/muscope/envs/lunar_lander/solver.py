"""Velocities and positions of bodies with joints and with contacts, after Box2D 2.3's solver.

The ground has no mass, so contacts of different bodies do not know of each other: those of all
three bodies are solved side by side.  A body has two slots for contacts, which are solved one
after the other, the newer in front.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from muscope.envs.lunar_lander import bodies as rigid
from muscope.envs.lunar_lander import contacts, joints
from muscope.envs.lunar_lander.bodies import Bodies, Body
from muscope.envs.lunar_lander.collide import Manifold
from muscope.envs.lunar_lander.contacts import Constraint, Impulses
from muscope.envs.lunar_lander.flight import POSITION_ITERATIONS, VELOCITY_ITERATIONS
from muscope.envs.lunar_lander.joints import Joints, Mass
from muscope.envs.lunar_lander.kernel import apart, for_lanes, kernel, of_one_lane
from muscope.envs.lunar_lander.solids import SOLIDS


def stacked(*values: Any) -> Any:
    """Structures side by side, along a new axis in front."""
    return jax.tree.map(lambda *x: jnp.stack(x), *values)


def _slot(of_each: Any, number: int) -> Any:
    """What all bodies have in one slot."""
    return jax.tree.map(lambda x: x[:, number], of_each)


def prepare(bodies: Bodies, manifolds: Manifold, impulses: Impulses) -> Constraint:
    """The masses and lever arms of all contacts, [3, 2] in front, of what has it too."""
    of_slots = jax.vmap(contacts.prepare, in_axes=(None, None, 0, 0))
    return jax.vmap(of_slots)(rigid.each(bodies), SOLIDS, manifolds, impulses)


def warm_start(bodies: Bodies, constraints: Constraint, impulses: Impulses) -> Bodies:
    """Velocities after last step's impulses at the ground."""
    of_each = rigid.each(bodies)
    for number in (0, 1):
        slots = (_slot(constraints, number), _slot(impulses, number))
        of_each = jax.vmap(contacts.warm_start)(of_each, SOLIDS, *slots)
    return rigid.together(of_each)


def velocities(
    bodies: Bodies,
    leg_joints: Joints,
    masses: tuple[Mass, Mass],
    constraints: Constraint,
    impulses: Impulses,
) -> tuple[Bodies, Joints, Impulses]:
    """All velocity iterations: in each the joints, then the contacts, [3, 2] in front."""
    return of_one_lane(_velocities, bodies, leg_joints, masses, constraints, impulses)


@for_lanes
def _velocities(bodies, leg_joints, masses, constraints, impulses):
    # [2 slots, 3 bodies, L]
    constraints, impulses = jax.tree.map(jnp.transpose, (constraints, impulses))

    def loop(carry, masses, constraints, count):
        def iteration(_, carry):
            bodies, leg_joints, impulses = carry
            bodies, leg_joints = jax.vmap(joints.solve_velocities)(bodies, leg_joints, masses)
            of_each = jax.vmap(rigid.each, out_axes=1)(bodies)
            of_each, impulses = _solve_slots(of_each, constraints, impulses, count)
            return jax.vmap(rigid.together, in_axes=1)(of_each), leg_joints, impulses

        return jax.lax.fori_loop(0, VELOCITY_ITERATIONS, iteration, carry)

    carry = (bodies, leg_joints, impulses)
    count = _needed(constraints.solved > 0)
    bodies, leg_joints, impulses = kernel(loop)(carry, masses, constraints, count)
    return bodies, leg_joints, jax.tree.map(jnp.transpose, impulses)


def _needed(used: Bool[Array, "2 3 L"]) -> Int[Array, ""] | int:
    """Slots up to the last that any body uses in any lane.  An empty slot changes nothing, so no
    lane depends on what others need.  Off the CPU it is always two: a number that the compiler
    knows.
    """
    if jax.default_backend() != "cpu":
        return 2
    used = jnp.any(used, axis=(1, 2))
    return jnp.max(jnp.where(used, jnp.arange(1, 3), 0))


def _solve_slots(
    of_each: Body, constraints: Constraint, impulses: Impulses, count: Int[Array, ""] | int
) -> tuple[Body, Impulses]:
    """One velocity iteration of the first ``count`` slots."""
    of_lanes = jax.vmap(contacts.solve_velocity, in_axes=(0, None, 0, 0))

    def solve(number, carry):
        of_each, impulses = carry
        c, i = jax.tree.map(lambda x: x[number], (constraints, impulses))
        of_each, i = jax.vmap(of_lanes)(of_each, SOLIDS, c, i)
        return of_each, jax.tree.map(lambda all_, new: all_.at[number].set(new), impulses, i)

    return jax.lax.fori_loop(0, count, solve, (of_each, impulses))


def positions(
    bodies: Bodies, leg_joints: Joints, manifolds: Manifold, impulses: Impulses
) -> tuple[Bodies, Bool[Array, ""]]:
    """Position iterations, until joints and contacts are close enough; whether they came to be."""
    return of_one_lane(_positions, bodies, leg_joints, manifolds, impulses)


@for_lanes
def _positions(bodies, leg_joints, manifolds, impulses):
    # [2 slots, 3 bodies, L]
    slots = jax.tree.map(lambda x: jnp.moveaxis(x, (0, 2), (2, 0)), (manifolds, impulses))
    left, right = slots[1].touching
    count = _needed(left | right)

    def contact(number, carry):
        at, fine = _of_contacts(carry[0], *jax.tree.map(lambda x: x[number], slots))
        return at, carry[1] & jnp.all(fine, axis=0)

    def iteration(carry):
        old, number, was_close = carry
        at, close = jax.lax.fori_loop(0, count, contact, (old, jnp.ones_like(was_close)))
        at, fine = _of_joints(at, leg_joints)
        at = tuple(jnp.where(was_close, x, y) for x, y in zip(old, at, strict=True))
        return at, number + 1, was_close | (close & fine)

    def unsolved(carry):
        return (carry[1] < POSITION_ITERATIONS) & jnp.any(~carry[2])

    at = tuple(jnp.stack(values) for values in bodies[:3])
    begin = (at, 0, jnp.zeros(at[0].shape[1:], bool))
    at, _, close = jax.lax.while_loop(unsolved, iteration, begin)
    return Bodies(*(tuple(values) for values in at), *bodies[3:]), close


# Each of the two by itself: XLA would fuse all of an iteration into each of its outputs.


@apart
def _of_contacts(at, manifolds, impulses):
    """One slot of all bodies: their places, [3, L] each, and whether each was close enough."""
    of_lanes = jax.vmap(contacts.solve_position, in_axes=(0, None, 0, 0))
    body, fine = jax.vmap(of_lanes)(_at(at), SOLIDS, manifolds, impulses)
    return body[:3], fine


@apart
def _of_joints(at, leg_joints):
    """Both joints: the bodies' places, and whether both were close enough."""
    bodies, fine = jax.vmap(joints.solve_positions)(rigid.together(_at(at)), leg_joints)
    return rigid.each(bodies)[:3], fine


def _at(at: tuple[Array, Array, Array]) -> Body:
    """Bodies of which only the place matters."""
    return Body(*at, *(jnp.zeros_like(x) for x in at))
