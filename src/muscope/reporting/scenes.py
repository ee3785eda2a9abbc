"""How an environment's states look: one drawing function per environment that has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon

from muscope.envs import CartPoleState, Environment, Stacked
from muscope.envs.lunar_lander import bodies as rigid
from muscope.envs.lunar_lander import snapshot, solids, touch
from muscope.envs.lunar_lander.bodies import Bodies
from muscope.envs.lunar_lander.snapshot import Snapshot

Scene = Callable[[Axes, Any, int], None]
"""Draws a state and the action that is taken in it on empty axes."""

SKY, GROUND, BODY, FLAME = "#10141f", "#d9d9d9", "#8573c9", "#E69F00"


def _placed(parts: Bodies, body: int, points: np.ndarray) -> np.ndarray:
    """Points [n, 2] around a body's centre of mass, in the world."""
    sin, cos = np.sin(parts.angle[body]), np.cos(parts.angle[body])
    turned = points @ np.array([[cos, sin], [-sin, cos]])
    return turned + np.array((parts.x[body], parts.y[body]))


def lunar_lander(axes: Axes, state: Snapshot, action: int) -> None:
    """Terrain, helipad, lander and legs, and the engine that fires."""
    world = jax.device_get(snapshot.unpack(state.world))
    axes.set_facecolor(SKY)
    x = np.arange(touch.EDGES + 1) * touch.CHUNK
    axes.fill_between(x, 0.0, world.heights, color=GROUND)
    for flag in (x[4], x[6]):
        axes.plot([flag, flag], [rigid.HEIGHT / 4, rigid.HEIGHT / 4 + 1.2], color="white", lw=1)
    parts = world.bodies
    for i, shape in ((1, solids.LEG), (2, solids.LEG), (0, solids.LANDER)):
        corners = shape.vertices[: shape.count] - np.array(shape.centroid)
        place = _placed(parts, i, corners)
        axes.add_patch(Polygon(place, facecolor=BODY, edgecolor="white", lw=0.5))
    flames = {
        1: [(-0.5, 0.35), (-0.9, 0.5), (-0.9, 0.25)],
        2: [(-0.2, -0.35), (0.2, -0.35), (0.0, -1.1)],
        3: [(0.5, 0.35), (0.9, 0.5), (0.9, 0.25)],
    }
    if action in flames:
        place = _placed(parts, 0, np.array(flames[action]))
        axes.add_patch(Polygon(place, color=FLAME))
    axes.set_xlim(0.0, rigid.WIDTH)
    axes.set_ylim(0.0, rigid.HEIGHT + 1.0)


def cart_pole(axes: Axes, state: CartPoleState, action: int) -> None:
    """Cart, pole, and the push."""
    x, angle = float(state.physics[0]), float(state.physics[2])
    axes.axhline(0.0, color="grey", lw=0.8)
    corners = np.array([(-0.25, 0.0), (0.25, 0.0), (0.25, 0.2), (-0.25, 0.2)]) + np.array((x, 0.0))
    axes.add_patch(Polygon(corners, color=BODY))
    tip = (x + np.sin(angle), 0.2 + np.cos(angle))
    axes.plot([x, tip[0]], [0.2, tip[1]], color=FLAME, lw=3)
    axes.plot([x, x + (0.5 if action else -0.5)], [0.1, 0.1], color="black", lw=1)
    axes.set_xlim(-2.6, 2.6)
    axes.set_ylim(-0.4, 1.6)


SCENES: dict[str, Scene] = {"cart-pole": cart_pole, "lunar-lander": lunar_lander}


def scene_of(environment: Environment) -> Scene | None:
    """How an environment's states look, if anybody has written it or it shows frames."""
    if isinstance(environment, Stacked):

        def newest_frame(axes: Axes, state: Any, action: int) -> None:
            frame = np.asarray(environment.frame(state))
            axes.imshow(frame.squeeze(-1) if frame.shape[-1] == 1 else frame, cmap="grey")

        return newest_frame
    return SCENES.get(environment.spec.name)
