"""Whole episodes equal to Box2D's in every bit.

XLA fuses products and sums, which Box2D's compiler does not; it is kept from it by a flag that
holds for a whole process, so this file runs itself as a script.
"""

import json
import os
import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_lunar_lander_flight import box2d, terrain_of

from muscope import runtime
from muscope.envs.lunar_lander import snapshot, touch
from muscope.envs.lunar_lander.environment import LunarLander, begin

lander_module = pytest.importorskip("gymnasium.envs.box2d.lunar_lander")
# From the heuristic to random play.  Among them are contacts with two edges made at once (56),
# a leg held by two edges (30), and many times of impact in a row (66, 137).
SEEDS = (0, 30, 56, 66, 100, 137, 199)
UNFUSED = "--xla_cpu_max_isa=AVX"


def box2ds(lander):
    """Places, angles and velocities of the three bodies, impulses of both joints, leg flags."""
    bodies = [
        (*body.worldCenter, body.angle, *body.linearVelocity, body.angularVelocity)
        for body in (lander.lander, *lander.legs)
    ]
    impulses = [
        (*j.GetReactionForce(1.0), j.GetReactionTorque(1.0), j.GetMotorTorque(1.0))
        for j in (leg.joint for leg in lander.legs)
    ]
    flags = [leg.ground_contact for leg in lander.legs]
    return np.array([*np.ravel(bodies), *np.ravel(impulses), *flags], np.float32)


def box2ds_contacts(lander):
    """Per leg the edges whose boxes it meets, newest contact first."""
    edges = [[c.contact.fixtureA.shape.vertices for c in leg.contacts] for leg in lander.legs]
    # pybox2d's list is the oldest first; the long edge lies below the terrain.
    return [[round(x0 / 2) for (x0, _), (x1, _) in ends[::-1] if x1 - x0 < 3] for ends in edges]


def our_contacts(state):
    """The same of a state of ours, and per leg the two edges that it may hold."""
    of_each = snapshot.unpack(np.asarray(state.world)).touches
    touches = touch.halves(jax.tree.map(lambda x: x[1:], of_each))
    held = [[int(t.left) + slot for slot in ((1, 0) if t.right_first else (0, 1))] for t in touches]
    present = [
        [edge for edge in edges if t.near[edge - int(t.left)]]
        for t, edges in zip(touches, held, strict=True)
    ]
    return present, held


def same_contacts(lander, state):
    """Whether the contacts with those edges, and their order, are Box2D's."""
    present, held = our_contacts(state)
    theirs = box2ds_contacts(lander)
    return present == [
        [e for e in edges if e in mine] for edges, mine in zip(theirs, held, strict=True)
    ]


@jax.jit
def ours(state):
    """What :func:`box2ds` gives, of a state of ours."""
    world = snapshot.unpack(state.world)
    bodies = jnp.stack([jnp.stack(row) for row in world.bodies], axis=1)
    impulses = jnp.stack([jnp.stack([j.x, j.y, j.limit_impulse, j.motor]) for j in world.joints])
    return jnp.concatenate([bodies.ravel(), impulses.ravel(), state.observation[6:]])


def episode(seed, start, step):
    """Steps, the first that differs (or None), and whether both ended alike."""
    lander, observation, force = box2d(seed)
    state = start(terrain_of(lander), jnp.asarray(force))
    rng = np.random.default_rng(seed + 1000)
    for number in range(1000):
        action = int(lander_module.heuristic(lander, observation))
        action = int(rng.integers(4)) if rng.random() < seed / 199 else action
        observation, _, over, _, _ = lander.step(action)
        state, _, ended = step(state, jnp.int32(action))
        same = np.array_equal(box2ds(lander), ours(state))
        if not same or not same_contacts(lander, state):
            return number, number, over == bool(ended)
        if over or ended:
            break
    return number, None, over == bool(ended)


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="elsewhere no flag keeps XLA from fusing, or sines are not glibc's",
)
def test_every_step_is_equal_to_box2ds_in_every_bit():
    flags = f"{os.environ.get('XLA_FLAGS', '')} {UNFUSED}"
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    episodes = json.loads(done.stdout.splitlines()[-1])
    assert {
        seed: differs for seed, (_, differs, _) in episodes.items() if differs is not None
    } == {}
    assert all(alike for _, _, alike in episodes.values())
    assert sum(steps for steps, _, _ in episodes.values()) > 1000


if __name__ == "__main__":
    runtime.prepare()
    programs = jax.jit(begin), jax.jit(LunarLander().step)
    print(json.dumps({seed: episode(seed, *programs) for seed in SEEDS}))
