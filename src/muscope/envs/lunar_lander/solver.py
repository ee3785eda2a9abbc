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


def stacked(*values: Any, axis: int = 0) -> Any:
    """Structures side by side, along a new axis."""
    return jax.tree.map(lambda *x: jnp.stack(x, axis), *values)


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
    left, right = impulses.touching
    count = _needed((left | right).T)
    # XLA would fuse all of an iteration into each of its nine outputs.
    of_contacts, of_joints = apart(jax.vmap(contacts.solve_position)), apart(joints.solve_positions)

    def of_lane(bodies, leg_joints, *slots):
        def contact(number, carry):
            given = jax.tree.map(lambda x: x[:, number], slots)
            of_each, fine = of_contacts(carry[0], SOLIDS, *given)
            return of_each, carry[1] & jnp.all(fine)

        def iteration(carry):
            begin = (rigid.each(carry[0]), jnp.array(True))
            of_each, close = jax.lax.fori_loop(0, count, contact, begin)
            bodies, fine = of_joints(rigid.together(of_each), leg_joints)
            return bodies, carry[1] + 1, close & fine

        def unsolved(carry):
            return (carry[1] < POSITION_ITERATIONS) & ~carry[2]

        begin = (bodies, 0, jnp.array(False))
        bodies, _, close = jax.lax.while_loop(unsolved, iteration, begin)
        return bodies, close

    return jax.vmap(of_lane)(bodies, leg_joints, manifolds, impulses)
