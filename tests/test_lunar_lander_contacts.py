"""The contact solver against Box2D: one body falls on one edge, slides and comes to rest.

Box2D's time-of-impact step and sleeping are switched off here; they are not its solver's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope.envs.lunar_lander import bodies as rigid
from muscope.envs.lunar_lander import contacts
from muscope.envs.lunar_lander.collide import collide
from muscope.envs.lunar_lander.solids import LANDER, LEG_HALF, solid

Box2D = pytest.importorskip("Box2D")


def falling(body, x, y, angle, vx, start, end):
    """Box2D's world with one lander or leg above an edge."""
    world = Box2D.b2World(gravity=(0, -10), doSleep=False)
    world.continuousPhysics = False
    ground = world.CreateStaticBody()
    ground.CreateEdgeFixture(vertices=[start, end], density=0, friction=0.1)
    if body:
        shape, density, friction = Box2D.b2PolygonShape(box=LEG_HALF), 1.0, 0.2
    else:
        vertices = [tuple(map(float, v)) for v in LANDER.vertices]
        shape, density, friction = Box2D.b2PolygonShape(vertices=vertices), 5.0, 0.1
    fixture = Box2D.b2FixtureDef(shape=shape, density=density, friction=friction)
    thing = world.CreateDynamicBody(position=(x, y), angle=angle, fixtures=fixture)
    thing.linearVelocity = (vx, 0.0)
    return world, thing


def make_step(body):
    made_of = solid(body)

    @jax.jit
    def step(state, impulses, start, end):
        at = (*contacts.place(state, made_of), state.angle)
        manifold = contacts.in_order(collide(made_of.polygon, *at, start, end))
        impulses = contacts.match(manifold, impulses)
        state = state._replace(vy=state.vy + rigid.STEP * rigid.GRAVITY)
        constraint = contacts.prepare(state, made_of, manifold, impulses)
        state = contacts.warm_start(state, made_of, constraint, impulses)

        def velocities(_, carry):
            return contacts.solve_velocity(carry[0], made_of, constraint, carry[1])

        state, impulses = jax.lax.fori_loop(0, 180, velocities, (state, impulses))
        state = rigid.move(state)

        def positions(carry):
            state, close = contacts.solve_position(carry[0], made_of, manifold, impulses)
            return state, carry[1] + 1, close

        def apart(carry):
            return (carry[1] < 60) & ~carry[2]

        state = jax.lax.while_loop(apart, positions, (state, 0, jnp.array(False)))[0]
        return state, impulses

    return step


def placed(body, x, y, angle, vx):
    """Our body where Box2D's is."""
    dx, dy = rigid.rotate(jnp.float32(angle), *solid(body).polygon.centroid)
    return rigid.Body(*map(jnp.float32, (x + dx, y + dy, angle, vx, 0.0, 0.0)))


@pytest.mark.parametrize("body", [0, 1], ids=["lander", "leg"])
@pytest.mark.parametrize("angle", [0.0, 0.3, -0.8])
@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_a_body_falls_slides_and_rests_as_in_box2d(body, angle, slope):
    start, end = (-4.0, -4.0 * slope), (4.0, 4.0 * slope)
    world, thing = falling(body, 0.3, 1.2, angle, 0.5, start, end)
    state, impulses, step = placed(body, 0.3, 1.2, angle, 0.5), contacts.nothing(), make_step(body)
    ground = jnp.array(start, jnp.float32), jnp.array(end, jnp.float32)
    touched, worst = 0, 0.0
    for _ in range(120):
        world.Step(1 / 50, 180, 60)
        state, impulses = step(state, impulses, *ground)
        pose = np.array(state[:3])
        centre = thing.worldCenter
        worst = max(worst, np.abs(pose - [centre.x, centre.y, thing.angle]).max())
        touched += bool(np.any(impulses.touching))
    assert touched > 60
    assert worst < 1e-3
