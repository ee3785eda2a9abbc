"""Times of impact against Box2D's, for shapes that move and turn towards an edge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope.envs.lunar_lander.impact import Sweep, time_of_impact
from muscope.envs.lunar_lander.solids import LANDER, LEG, LEG_HALF

Box2D = pytest.importorskip("Box2D")
SHAPES = {"lander": LANDER, "leg": LEG}


def box2ds(name, sweep, start, end):
    """Box2D's time, and whether the shapes touch at it."""
    vertices = [tuple(map(float, v)) for v in LANDER.vertices]
    shape = (
        Box2D.b2PolygonShape(box=LEG_HALF)
        if name == "leg"
        else Box2D.b2PolygonShape(vertices=vertices)
    )
    edge = Box2D.b2EdgeShape(vertices=[tuple(map(float, p)) for p in (start, end)])
    still, moving = Box2D.b2Sweep(), Box2D.b2Sweep()
    for s in (still, moving):
        s.alpha0 = 0.0
    still.localCenter = still.c0 = still.c = (0.0, 0.0)
    still.a0 = still.a = 0.0
    moving.localCenter = tuple(map(float, SHAPES[name].centroid))
    moving.c0, moving.c = (float(sweep.x0), float(sweep.y0)), (float(sweep.x), float(sweep.y))
    moving.a0, moving.a = float(sweep.angle0), float(sweep.angle)
    return Box2D.b2TimeOfImpact(
        shapeA=edge, idxA=0, shapeB=shape, idxB=0, sweepA=still, sweepB=moving, tMax=1.0
    )


def motions(count, seed):
    """Bodies near an edge, moving up to a third of a metre and turning up to half a radian."""
    rng = np.random.default_rng(seed)
    f = jnp.float32
    for _ in range(count):
        start = rng.uniform(-1, 1, 2)
        slope, length = rng.uniform(-1.2, 1.2), rng.uniform(0.5, 2.5)
        along = np.array([np.cos(slope), np.sin(slope)])
        up = np.array([-along[1], along[0]])
        place = start + rng.uniform(-0.1, 1.1) * length * along + rng.uniform(0.1, 0.9) * up
        moved = place + rng.normal(0, 0.1, 2) - rng.uniform(0, 0.3) * up
        angle = rng.uniform(-3, 3)
        sweep = Sweep(
            *map(f, (*place, angle, *moved, angle + rng.normal(0, 0.2))),
        )
        yield sweep, np.float32(start), np.float32(start + length * along)


@pytest.mark.parametrize("name", ["lander", "leg"])
def test_times_of_impact_equal_box2ds(name):
    ours = jax.jit(lambda *given: time_of_impact(SHAPES[name], *given))
    touched, same = 0, 0
    cases = list(motions(1500, 0))
    for sweep, start, end in cases:
        state, expected = box2ds(name, sweep, start, end)
        impact = ours(sweep, jnp.asarray(start), jnp.asarray(end))
        hit = state == Box2D.b2TOIOutput.e_touching
        touched += hit
        same += bool(impact.touching) == hit and abs(float(impact.time) - expected) < 1e-3
    assert touched > 200
    assert same >= 0.995 * len(cases)
