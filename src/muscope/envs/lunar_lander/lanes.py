"""Stepping many lanes, each at its own price.

A step with contacts costs some twenty times a step of free flight, one with a time of impact
more, and few lanes need them at a time.  So lanes are sorted by what they need: those that fly
are stepped in tiles of one size, those near the ground in smaller ones, those of their bodies
that may hit it in smaller ones again, and those whose episode is over not at all.

A tile has the same size whatever the number of lanes, and on CPU its program is kept apart from
its surroundings.  So a state steps to the same bits alone and among any others.  There tiles are
small: four lanes near the ground take a fifth of the time that sixteen take, and a planner's few
lanes fill them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from muscope.envs.lunar_lander import bodies, snapshot, world
from muscope.envs.lunar_lander.kernel import apart, for_lanes, of_one_lane
from muscope.envs.lunar_lander.snapshot import FLYING, NEAR, Snapshot
from muscope.envs.lunar_lander.world import World

Moved = tuple[Snapshot, Float[Array, "..."]]
"""A state and the reward for getting there."""


def step(state: Snapshot, action: Int[Array, ""]) -> tuple[Snapshot, Float[Array, ""]]:
    """One lane's next state and reward; a state that is over stays, with reward 0.

    Args:
        state: one state; under ``jax.vmap``, however nested, all lanes are sorted together.
        action: 0 nothing, 1 left, 2 main, 3 right engine.

    """
    return of_one_lane(_step_lanes, state, action)


def launch(state: Snapshot, force: Float[Array, "2"]) -> Snapshot:
    """A first step, far from the ground: ``force`` (N) pushes the lander, no engine is on."""
    return of_one_lane(_launch_lanes, state, force)


def _tile(lanes: int, of_cpu: int, share: int) -> int:
    """Lanes stepped at once.  On CPU larger tiles serve few lanes worse and hundreds hardly better,
    and sizes that are not multiples of four round a tile's last lanes otherwise than its first; an
    accelerator takes as many as may need it at a time.
    """
    return of_cpu if jax.default_backend() == "cpu" else -(-lanes // share)


@for_lanes
def _step_lanes(state: Snapshot, action: Int[Array, "L"]) -> tuple[Snapshot, Float[Array, "L"]]:
    lanes = action.shape[0]
    given, moved = (state, action), (state, jnp.zeros((lanes,)))
    size = _tile(lanes, 64, 1)
    moved = _step_some(_fly, size, state.phase == FLYING, given, moved)
    size = _tile(lanes, 4, 8)
    moved, touched = _step_some(_settle, size, state.phase == NEAR, given, (moved, _nothing(lanes)))
    met = _hit_bodies(touched)
    hits = jnp.any(touched.hits, axis=1)
    return _step_some(_land, size, hits, (state, action, moved[0], met), moved)


def _hit_bodies(touched: Touchdown) -> Float[Array, "L 3 B"]:
    """All bodies after their times of impact.  Each body that may have some is a lane of its own:
    mostly it is one leg.
    """
    lanes = len(touched.hits)
    flat = jax.tree.map(lambda x: x.reshape(3 * lanes, *x.shape[2:]), touched)
    given = (flat.met, flat.before, jnp.tile(jnp.arange(3), lanes), flat.heights)
    met = _step_some(_hit, _tile(3 * lanes, 4, 96), flat.hits, given, flat.met)
    return met.reshape(touched.met.shape)


@for_lanes
def _launch_lanes(state: Snapshot, force: Float[Array, "L 2"]) -> Snapshot:
    lanes = force.shape[0]
    everyone = jnp.ones((lanes,), bool)
    return _step_some(_launch, _tile(lanes, 64, 1), everyone, (state, force), state)


def _moved(before: Snapshot, action: Int[Array, ""], world_: World) -> Moved:
    after = snapshot.snapshot(world_)
    return after, snapshot.reward(before, after, action)


def _fly(state: Snapshot, action: Int[Array, ""]) -> Moved:
    return _moved(state, action, snapshot.fly(snapshot.unpack(state.world), action, jnp.zeros(2)))


def _launch(state: Snapshot, force: Float[Array, "2"]) -> Snapshot:
    return snapshot.snapshot(snapshot.fly(snapshot.unpack(state.world), jnp.int32(0), force))


class Touchdown(NamedTuple):
    """What the bodies' times of impact depend on."""

    met: Float[Array, "3 B"]
    """The settled bodies, from :func:`muscope.envs.lunar_lander.snapshot.pack_met`."""
    before: Float[Array, "3 6"]
    """Them at the step's beginning."""
    heights: Float[Array, "3 11"]
    """m, of the terrain, for each."""
    hits: Bool[Array, "3"]
    """Which may have any."""


def _nothing(lanes: int) -> Touchdown:
    """No lane has settled."""
    met, before, heights = (jnp.zeros((lanes, 3, size)) for size in (snapshot.MET, 6, 11))
    return Touchdown(met, before, heights, jnp.zeros((lanes, 3), bool))


def _settle(state: Snapshot, action: Int[Array, ""]) -> tuple[Moved, Touchdown]:
    settled, before = world.settle(snapshot.unpack(state.world), action)
    met = jax.vmap(snapshot.pack_met)(world.met(settled))
    heights = jnp.broadcast_to(settled.heights, (3, 11))
    places = jnp.stack(bodies.each(before), axis=1)
    touched = Touchdown(met, places, heights, world.may_hit(settled, before))
    return _moved(state, action, settled), touched


def _hit(
    met: Float[Array, "B"],
    before: Float[Array, "6"],
    number: Int[Array, ""],
    heights: Float[Array, "11"],
) -> Float[Array, "B"]:
    hit = world.impact(snapshot.unpack_met(met), bodies.Body(*before), number, heights)
    return snapshot.pack_met(hit)


def _land(
    state: Snapshot, action: Int[Array, ""], settled: Snapshot, met: Float[Array, "3 B"]
) -> Moved:
    landed = world.landed(snapshot.unpack(settled.world), jax.vmap(snapshot.unpack_met)(met))
    return _moved(state, action, landed)


@functools.cache
def _apart(one_lane: Callable[..., Any]) -> Callable[..., Any]:
    """``one_lane`` for a tile of lanes; kept, so that JAX traces it once for all programs."""
    return apart(jax.vmap(one_lane))


def _step_some(
    one_lane: Callable[..., Any], size: int, wanted: Bool[Array, "L"], given: tuple, moved: Any
) -> Any:
    """``moved`` with ``one_lane(*given)`` in the lanes ``wanted``, ``size`` at a time."""
    of_tile = _apart(one_lane)
    lanes = wanted.shape[0]
    # At least two tiles: XLA moves a loop's only possible round in front of the loop, where it
    # is computed whether anybody wants it or not.
    room = max(-(-lanes // size), 2) * size
    # Lanes in front that are wanted; the last lane fills the last tile.
    index = jnp.nonzero(wanted, size=room, fill_value=lanes - 1)[0]

    def advance(number: Int[Array, ""], out: Any) -> Any:
        at = jax.lax.dynamic_slice_in_dim(index, number * size, size)
        chosen = jax.tree.map(lambda x: x.at[at].get(mode="promise_in_bounds"), given)
        return jax.tree.map(
            lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new, number * size, 0),
            out,
            of_tile(*chosen),
        )

    empty = jax.tree.map(lambda x: jnp.zeros((room, *x.shape[1:]), x.dtype), moved)
    count = jnp.sum(wanted)
    stepped = jax.lax.fori_loop(0, (count + size - 1) // size, advance, empty)
    place = jnp.maximum(jnp.cumsum(wanted) - 1, 0)

    def scattered(new: Array, old: Array) -> Array:
        new = new.at[place].get(mode="promise_in_bounds")
        return jnp.where(wanted.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

    return jax.tree.map(scattered, stepped, moved)
