"""What stands between an agent and an environment that it was not trained on as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.agent.base import Agent, Latent, Prediction
from muscope.envs.base import Environment, Resumed, State, Trainable, Transition, training_view
from muscope.errors import ConfigError


class Scaled(eqx.Module):
    """An agent that was trained on rewards divided by a scale, in the game's own units."""

    agent: Agent
    reward_scale: float = eqx.field(static=True)

    def represent(self, observation: Float[Array, "..."]) -> Latent:
        """The agent's."""
        return self.agent.represent(observation)

    def step(self, z: Latent, action: Int[Array, ""]) -> tuple[Latent, Float[Array, ""]]:
        """The agent's, its reward times the scale."""
        following, reward = self.agent.step(z, action)
        return following, reward * self.reward_scale

    def predict(self, z: Latent) -> Prediction:
        """The agent's, its value times the scale."""
        policy_logits, value = self.agent.predict(z)
        return Prediction(policy_logits, value * self.reward_scale)


class HistoryState(NamedTuple):
    """A state with what was seen on the way to it, newest first."""

    inner: State
    observations: Float[Array, "N ..."]
    actions: Float[Array, "N codes"]
    """Codes of the actions that led to the observations."""
    reward: Float[Array, ""]
    """Of the step that led here."""
    terminated: Bool[Array, ""]


def share_of(num_actions: int) -> Callable[[Int[Array, ""]], Float[Array, ""]]:
    """The code a / A of an action."""
    return lambda action: action / num_actions


class WithHistory:
    """An environment whose observation holds the last observations and actions.

    A state keeps them, so it is still its own snapshot.  The observation is, newest first, and
    with c_t the code of the action that led to x_t: x_t, c_t, x_{t-1}, c_{t-1}, ... for "led";
    x_t, x_{t-1}, c_t, x_{t-2}, c_{t-1}, ... for "taken"; x_t, x_{t-1}, ... for "none".

    Args:
        environment: any; if it has a training view, so has this, with the history of the whole
            game.
        observations: N, how many there are, the present one included.
        actions: which actions stand beside the observations. "led": beside each the one that led
            to it. "taken": beside each but the present one the one taken there. "none".
        encode: an action's code, a number or a vector; a / A by default.
        padding: "first" repeats the first observation, with the code of action 0; "zeros" has
            zeros for both.
        shape: observations are brought into this shape first; their own by default.
        axis: along which observations and actions are joined.  An action fills the other axes
            with its code: a vector gets a number, an image a plane.

    Raises:
        ConfigError: not at least one observation, or an unknown word.

    """

    def __init__(
        self,
        environment: Environment,
        observations: int = 4,
        actions: str = "led",
        encode: Callable[[Int[Array, ""]], Float[Array, "..."]] | None = None,
        padding: str = "first",
        shape: tuple[int, ...] | None = None,
        axis: int = 0,
    ):
        if observations < 1:
            raise ConfigError("a history needs at least 1 observation, the present one.")
        for name, value, known in (
            ("actions", actions, ("led", "taken", "none")),
            ("padding", padding, ("first", "zeros")),
        ):
            if value not in known:
                raise ConfigError(f"a history's {name} is {value!r}; it must be one of {known}.")
        self.environment = environment
        self._count, self._actions, self._padding = observations, actions, padding
        self._encode = encode or share_of(environment.spec.num_actions)
        self._shape = shape or environment.spec.observation_shape
        self._axis = axis
        start = jax.eval_shape(self.reset, jax.random.key(0))
        joined = jax.eval_shape(self.observe, start).shape
        self.spec = environment.spec._replace(observation_shape=joined)

    def reset(self, key: Key[Array, ""]) -> HistoryState:
        """Draw an initial state; nothing precedes it."""
        inner = self.environment.reset(key)
        first = self._seen(inner)
        code = self._code(jnp.zeros((), jnp.int32))
        if self._padding == "first":
            observations = jnp.stack([first] * self._count)
            actions = jnp.stack([code] * self._count)
        else:
            observations = jnp.zeros((self._count, *first.shape)).at[0].set(first)
            actions = jnp.zeros((self._count, *code.shape))
        return HistoryState(inner, observations, actions, jnp.zeros(()), jnp.array(False))

    def step(self, state: HistoryState, action: Int[Array, ""]) -> Transition:
        """The environment's step; what was seen moves on by one."""
        inner, reward, terminated = self.environment.step(state.inner, action)
        moved = HistoryState(
            inner,
            _pushed(state.observations, self._seen(inner)),
            _pushed(state.actions, self._code(action)),
            reward,
            terminated,
        )
        # Nothing is seen or done in an absorbing state, so it stays the very same.
        following = jax.tree.map(
            lambda old, new: jnp.where(state.terminated, old, new), state, moved
        )
        return Transition(following, reward, following.terminated)

    def observe(self, state: HistoryState) -> Float[Array, "..."]:
        """The last observations and actions, joined."""
        parts: list[Array] = []
        for i in range(self._count):
            parts.append(state.observations[i])
            if self._actions == "led":
                parts.append(self._plane(state.actions[i]))
            elif self._actions == "taken" and i > 0:
                parts.append(self._plane(state.actions[i - 1]))
        return jnp.concatenate(parts, axis=self._axis)

    def training(self) -> WithHistory:
        """The training view of the environment, if it has one, with the same history."""
        view = copy.copy(self)
        view.environment = training_view(self.environment)
        view.spec = self.spec._replace(time_limit=view.environment.spec.time_limit)
        return view

    def resume(self, state: HistoryState) -> Resumed:
        """The game behind a state that a step of the training view has just led to."""
        if not isinstance(self.environment, Trainable):
            return Resumed(state, state.terminated, state.reward)
        inner, over, points = self.environment.resume(state.inner)
        return Resumed(state._replace(inner=inner, terminated=over), over, points)

    def _seen(self, inner: State) -> Float[Array, "..."]:
        return self.environment.observe(inner).astype(jnp.float32).reshape(self._shape)

    def _code(self, action: Int[Array, ""]) -> Float[Array, "codes"]:
        return jnp.atleast_1d(jnp.asarray(self._encode(action), jnp.float32))

    def _plane(self, code: Float[Array, "codes"]) -> Float[Array, "..."]:
        """The code in a shape that can be joined with an observation."""
        others = list(self._shape)
        axis = range(len(others))[self._axis]
        others[axis] = code.size
        return jnp.broadcast_to(jnp.expand_dims(code, _all_but(axis, len(others))), others)


def _all_but(axis: int, count: int) -> tuple[int, ...]:
    return tuple(other for other in range(count) if other != axis)


def _pushed(rows: Float[Array, "N ..."], newest: Float[Array, "..."]) -> Any:
    return jnp.concatenate([newest[None], rows[:-1]])
