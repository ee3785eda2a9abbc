"""A state of the MDP in a few arrays, and one step of it.

A world has a hundred small parts; as one vector it is gathered, kept in trees and written back
at once.  Numbers that are whole or true-or-false are exact in float32.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander import flight, touch, world
from muscope.envs.lunar_lander.bodies import STEP
from muscope.envs.lunar_lander.world import Met, World

MAIN_COST, SIDE_COST = 0.3, 0.03
FLYING, NEAR, OVER = 0, 1, 2  # phases
REACH = (0.72, 0.28, 0.28)  # m, from each body's centre of mass to its farthest corner
CLEAR = 0.22  # m, more than touching or an impact needs; contacts may exist in flight too
SLACK = 0.05  # m that one step's engines and joints can add to a body's way at its old speed


class Snapshot(NamedTuple):
    """A state: stepping it again gives the same bits, whatever is stepped beside it."""

    observation: Float[Array, "8"]
    """Position, velocity, angle, spin, and whether each leg touches the ground."""
    world: Float[Array, "F"]
    """Everything a step depends on, from :func:`pack`."""
    phase: Int[Array, ""]
    """What the next step needs: FLYING no contacts, NEAR the whole step, OVER nothing."""


def _flat(values: Any) -> Float[Array, "n"]:
    """A structure as one vector, for :func:`_like`."""
    return jnp.concatenate([x.reshape(-1).astype(jnp.float32) for x in jax.tree.leaves(values)])


def _like(example: Any, values: Float[Array, "n"]) -> Any:
    """What :func:`_flat` packed, of the example's shapes."""
    leaves, structure = jax.tree.flatten(example)
    parts, at = [], 0
    for leaf in leaves:
        parts.append(values[at : at + leaf.size].reshape(leaf.shape).astype(leaf.dtype))
        at += leaf.size
    return jax.tree.unflatten(structure, parts)


_WORLD = jax.eval_shape(world.start, jax.ShapeDtypeStruct((11,), jnp.float32))
_TOUCH = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), _WORLD.touches)
_MET = jax.eval_shape(lambda w: jax.tree.map(lambda x: x[0], world.met(w)), _WORLD)
MET = sum(leaf.size for leaf in jax.tree.leaves(_MET))
"""B, numbers that are one body and its contacts."""
_PACKED = _WORLD._replace(touches=jax.eval_shape(jax.vmap(_flat), _WORLD.touches))


def pack(w: World) -> Float[Array, "F"]:
    """A world as one vector; of its contacts, body by body."""
    touches: Any = jax.vmap(_flat)(w.touches)
    return _flat(w._replace(touches=touches))


def unpack(values: Float[Array, "F"]) -> World:
    """The world that :func:`pack` packed."""
    w = _like(_PACKED, values)
    return w._replace(touches=jax.vmap(functools.partial(_like, _TOUCH))(w.touches))


def pack_met(met: Met) -> Float[Array, "B"]:
    """One body and its contacts as one vector."""
    return _flat(met)


def unpack_met(values: Float[Array, "B"]) -> Met:
    """What :func:`pack_met` packed."""
    return _like(_MET, values)


def observe(w: World) -> Float[Array, "8"]:
    """Gymnasium's observation."""
    legs = w.flags[1:].astype(jnp.float32)
    return jnp.concatenate([flight.observe(w.bodies), legs])


def shaping(seen: Float[Array, "8"]) -> Float[Array, ""]:
    """Gymnasium's potential: near the pad, slow, upright, legs down."""
    near = jnp.sqrt(seen[0] * seen[0] + seen[1] * seen[1])
    slow = jnp.sqrt(seen[2] * seen[2] + seen[3] * seen[3])
    return -100 * (near + slow + jnp.abs(seen[4])) + 10 * (seen[6] + seen[7])


def is_near(w: World) -> Bool[Array, ""]:
    """Whether a body may come near the ground within the next step."""
    ends = jnp.arange(touch.EDGES + 1) * touch.CHUNK
    near = w.flags[1] | w.flags[2]
    for i in range(3):
        way = STEP * (jnp.abs(w.bodies.vx[i]) + jnp.abs(w.bodies.vy[i])) + SLACK
        around = REACH[i] + CLEAR + way
        # Both ends of every edge that begins or ends beside the body.
        beside = jnp.abs(ends - w.bodies.x[i]) < around + touch.CHUNK
        top = jnp.max(jnp.where(beside, w.heights, -jnp.inf))
        near |= w.bodies.y[i] - around < top
    return near


def snapshot(w: World) -> Snapshot:
    """The state that a world is."""
    seen = observe(w)
    over = w.flags[0] | (jnp.abs(seen[0]) >= 1.0) | ~w.awake
    phase = jnp.where(over, OVER, jnp.where(is_near(w), NEAR, FLYING))
    return Snapshot(seen, pack(w), phase.astype(jnp.int32))


def fly(w: World, action: Int[Array, ""], force: Float[Array, "2"]) -> World:
    """A step far from the ground."""
    w = world.shift(w)
    before = flight.fire(w.bodies, action)
    bodies, leg_joints = flight.fly(before, w.joints, force)
    bodies, still, awake = world.sleep(bodies, w.still, jnp.array(True))
    flown = w._replace(bodies=bodies, joints=leg_joints, still=still, awake=awake)
    return world.renew(flown, before)


def reward(before: Snapshot, after: Snapshot, action: Int[Array, ""]) -> Float[Array, ""]:
    """Gymnasium's: the gain in potential less the fuel; 100 for coming to rest, else -100, at
    the end.
    """
    gain = shaping(after.observation) - shaping(before.observation)
    side = (action == 1) | (action == 3)
    cost = jnp.where(action == 2, MAIN_COST, jnp.where(side, SIDE_COST, 0.0))
    ended = jnp.where(unpack(after.world).awake, -100.0, 100.0)
    return jnp.where(after.phase == OVER, ended, gain - cost)
