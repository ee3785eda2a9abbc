"""The contact solver against Box2D: one body falls on one edge, slides and comes to rest.

Box2D's time-of-impact step and sleeping are switched off here; they are not its solver's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope.envs.lunar_lander import bodies as rigid
from muscope.envs.lunar_lander import contacts
from muscope.envs.lunar_lander.collide import LANDER, LEG, LEG_HALF, collide

Box2D = pytest.importorskip("Box2D")
SHAPES = {0: LANDER, 1: LEG}


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
    @jax.jit
    def step(state, impulses, start, end):
        dx, dy = rigid.rotate(state.angle[body], *contacts.CENTRES[body])
        at = (state.x[body] - dx, state.y[body] - dy, state.angle[body])
        manifold = contacts.in_order(collide(SHAPES[body], *at, start, end))
        impulses = contacts.match(manifold, impulses)
        down = state.vy[body] + rigid.STEP * rigid.GRAVITY
        state = state._replace(vy=rigid.replace(state.vy, body, down))
        constraint = contacts.prepare(state, body, manifold, impulses)
        motion = contacts.warm_start(rigid.motion(state, body), body, constraint, impulses)

        def velocities(_, carry):
            return contacts.solve_velocity(carry[0], body, constraint, carry[1])

        motion, impulses = jax.lax.fori_loop(0, 180, velocities, (motion, impulses))
        state = rigid.move(rigid.moving(state, body, motion))

        def positions(carry):
            state, close = contacts.solve_position(carry[0], body, manifold, impulses)
            return state, carry[1] + 1, close

        def apart(carry):
            return (carry[1] < 60) & ~carry[2]

        state = jax.lax.while_loop(apart, positions, (state, 0, jnp.array(False)))[0]
        return state, impulses

    return step


def placed(body, x, y, angle, vx):
    """Our bodies with one of them where Box2D's is."""
    dx, dy = rigid.rotate(jnp.float32(angle), *contacts.CENTRES[body])
    state = rigid.start()
    changed = {"x": x + dx, "y": y + dy, "angle": angle, "vx": vx}
    for name, value in changed.items():
        values = rigid.replace(getattr(state, name), body, jnp.float32(value))
        state = state._replace(**{name: values})
    return state


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
        pose = np.array([state.x[body], state.y[body], state.angle[body]])
        centre = thing.worldCenter
        worst = max(worst, np.abs(pose - [centre.x, centre.y, thing.angle]).max())
        touched += bool(np.any(impulses.touching))
    assert touched > 60
    assert worst < 1e-3
