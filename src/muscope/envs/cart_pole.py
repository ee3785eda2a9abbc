"""Cart Pole, equal to Gymnasium's ``CartPole-v1`` step by step.

Source of the dynamics and constants: Barto, Sutton and Anderson (1983) as implemented
by Gymnasium 1.x (``gymnasium.envs.classic_control.cartpole``), explicit Euler,
reward 1 per step including the one that fails.  Gymnasium computes in float64; this
computes in float32, so single steps agree to float32 rounding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.envs.base import Spec, Transition

GRAVITY = 9.8  # m/s^2
MASS_CART = 1.0  # kg
MASS_POLE = 0.1  # kg
HALF_LENGTH = 0.5  # m, from the hinge to the pole's centre of mass
FORCE = 10.0  # N, pushed left (action 0) or right (action 1)
TAU = 0.02  # s per step
X_LIMIT = 2.4  # m
THETA_LIMIT = 12 * 2 * math.pi / 360  # rad
RESET_RANGE = 0.05  # every component starts uniform in +-RESET_RANGE


class CartPoleState(NamedTuple):
    """Position (m), velocity (m/s), pole angle (rad), angular velocity (rad/s)."""

    physics: Float[Array, "4"]
    terminated: Bool[Array, ""]


class CartPole:
    """The Cart Pole MDP; see :class:`muscope.envs.base.Environment`."""

    spec = Spec(name="cart-pole", num_actions=2, observation_shape=(4,), time_limit=500)
    action_names = ("left", "right")

    def reset(self, key: Key[Array, ""]) -> CartPoleState:
        physics = jax.random.uniform(key, (4,), minval=-RESET_RANGE, maxval=RESET_RANGE)
        return CartPoleState(physics, jnp.array(False))

    def step(self, state: CartPoleState, action: Int[Array, ""]) -> Transition:
        x, x_dot, theta, theta_dot = (state.physics[i] for i in range(4))
        force = jnp.where(action == 1, FORCE, -FORCE)
        cos, sin = jnp.cos(theta), jnp.sin(theta)
        total_mass = MASS_CART + MASS_POLE
        pole_moment = MASS_POLE * HALF_LENGTH
        push = (force + pole_moment * theta_dot**2 * sin) / total_mass
        theta_acc = (GRAVITY * sin - cos * push) / (
            HALF_LENGTH * (4.0 / 3.0 - MASS_POLE * cos**2 / total_mass)
        )
        x_acc = push - pole_moment * theta_acc * cos / total_mass

        moved = jnp.stack(
            [
                x + TAU * x_dot,
                x_dot + TAU * x_acc,
                theta + TAU * theta_dot,
                theta_dot + TAU * theta_acc,
            ]
        )
        failed = (jnp.abs(moved[0]) > X_LIMIT) | (jnp.abs(moved[2]) > THETA_LIMIT)
        physics = jnp.where(state.terminated, state.physics, moved)
        reward = jnp.where(state.terminated, 0.0, 1.0)
        terminated = state.terminated | failed
        return Transition(CartPoleState(physics, terminated), reward, terminated)

    def observe(self, state: CartPoleState) -> Float[Array, "4"]:
        return state.physics
