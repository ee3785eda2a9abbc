"""The environment contract: a deterministic MDP that is its own true model.

A *state* is a pytree that can be kept, copied and stepped again any number of times
with the same result.  That makes the environment the ground-truth model which
evaluation and planning need: a snapshot is the state itself.

Rules every environment obeys
-----------------------------
* Only :meth:`Environment.reset` draws random numbers.
* Termination is absorbing: stepping a terminated state returns that same state with
  reward 0 and ``terminated`` true.
* There is no time limit in the dynamics.  ``spec.time_limit`` is applied by the code
  that runs episodes (:mod:`muscope.envs.episode`) and is a truncation.
* Functions take one state and are traceable; callers use ``jax.vmap``.
* If there is an ``action_names``, pages call the actions by them.

An environment that lives on the host (an emulator) obeys the same contract: its state
holds the emulator's serialised snapshot, and ``step`` is a pure callback (see
:mod:`muscope.envs.host`).  Nothing above this module can tell.

Training may see another problem than the game that is scored, over the same states: an
environment with :class:`Trainable`'s methods says so.  ``training`` gives that view, in which
an episode may end (and be learned as ended) while the game goes on from :meth:`resume`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

State = Any
"""An environment's own state pytree."""
PARTS = ("spec", "reset", "step", "observe")
"""What an :class:`Environment` has."""


class Spec(NamedTuple):
    """What an agent must know about an environment."""

    name: str
    num_actions: int
    observation_shape: tuple[int, ...]
    time_limit: int
    """Steps after which an episode is truncated (not terminated)."""


class Transition(NamedTuple):
    """The result of one step."""

    state: State
    reward: Float[Array, ""]
    """r_t = R(s_t, a_t); 0 once terminated."""
    terminated: Bool[Array, ""]
    """Whether the *new* state is terminal (and stays so)."""


@runtime_checkable
class Environment(Protocol):
    """A deterministic MDP; see the module's docstring for the rules."""

    @property
    def spec(self) -> Spec: ...

    def reset(self, key: Key[Array, ""]) -> State:
        """Draw an initial state."""
        ...

    def step(self, state: State, action: Int[Array, ""]) -> Transition:
        """s_{t+1} = T(s_t, a_t) and r_t = R(s_t, a_t)."""
        ...

    def observe(self, state: State) -> Float[Array, "..."]:
        """What the agent sees of ``state``, of shape ``spec.observation_shape``."""
        ...


class Resumed(NamedTuple):
    """A game after a step of a training view."""

    state: State
    """Where it goes on: the stepped state, without an end that only the view sees."""
    over: Bool[Array, ""]
    """It is over and does not go on."""
    points: Float[Array, ""]
    """Its own reward of that step."""


@runtime_checkable
class Trainable(Environment, Protocol):
    """An environment whose training view differs from the game itself."""

    def training(self) -> Trainable:
        """The view that agents learn from, with states of the same kind."""
        ...

    def resume(self, state: State) -> Resumed:
        """The game behind a state that a step of the view has just led to."""
        ...


@runtime_checkable
class Stacked(Environment, Protocol):
    """An environment that shows the last few frames, so that each need be kept only once."""

    @property
    def stack(self) -> int:
        """Frames in an observation."""
        ...

    def frame(self, state: State) -> Array:
        """The newest frame."""
        ...

    def age(self, state: State) -> Int[Array, ""]:
        """How many of the frames before it, at most ``stack`` - 1, belong to the same game;
        copies of the first stand for those that do not.
        """
        ...

    def observe_frames(self, frames: Array) -> Float[Array, "..."]:
        """The observation of the state whose last ``stack`` frames, oldest first, these are."""
        ...


@runtime_checkable
class PlaysOut(Environment, Protocol):
    """An environment that follows given actions faster than step by step."""

    def play_out(
        self, state: State, actions: Int[Array, "H"], length: Int[Array, ""]
    ) -> Float[Array, "H"]:
        """What :func:`play_out` gives."""
        ...


def play_out(
    environment: Environment, state: State, actions: Int[Array, "H"], length: Int[Array, ""]
) -> Float[Array, "H"]:
    """The rewards of the first ``length`` of ``actions`` from a state; 0 after them."""
    if isinstance(environment, PlaysOut):
        return environment.play_out(state, actions, length)
    return step_out(environment, state, actions, length)


def step_out(
    environment: Environment, state: State, actions: Int[Array, "H"], length: Int[Array, ""]
) -> Float[Array, "H"]:
    """The same step by step, all actions taken."""

    def step(state: State, action: Int[Array, ""]) -> tuple[State, Float[Array, ""]]:
        moved = environment.step(state, action)
        return moved.state, moved.reward

    _, rewards = jax.lax.scan(step, state, actions)
    return jnp.where(jnp.arange(actions.shape[0]) < length, rewards, 0.0)


def training_view(environment: Environment) -> Environment:
    """The problem that agents learn: the environment itself, unless it says otherwise."""
    return environment.training() if isinstance(environment, Trainable) else environment
