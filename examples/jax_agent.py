"""An agent of one's own in JAX: it knows Cart Pole's physics but for the pole's length.

muscope examine examples/jax_agent.py:subject
"""

import jax.numpy as jnp

import muscope
from muscope.agent import FunctionAgent
from muscope.envs import CartPole, CartPoleState

world = CartPole()


def represent(parameters, observation):
    return CartPoleState(observation, jnp.array(False))


def step(parameters, z, action):
    stretched = z._replace(physics=z.physics.at[3].multiply(parameters["pole"]))
    moved = world.step(stretched, action)
    shrunk = moved.state.physics.at[3].divide(parameters["pole"])
    return moved.state._replace(physics=shrunk), moved.reward


def predict(parameters, z):
    lean = z.physics[2] + z.physics[3]
    return parameters["sharpness"] * jnp.stack([-lean, lean]), 20.0 * (1.0 - jnp.abs(lean))


def subject():
    agents = [
        FunctionAgent(
            {"pole": jnp.array(p), "sharpness": jnp.array(10.0)}, represent, step, predict
        )
        for p in (0.9, 1.0, 1.1)
    ]
    return muscope.subject(agents, "cart-pole", name="jax-agent", discount=0.99, unroll=5)
