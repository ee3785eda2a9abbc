"""Environments whose dynamics run on the host, in worker processes.

A state carries its content, the simulator's serialised snapshot, and not a handle into some
table.  So states obey the contract of :mod:`muscope.envs.base` to the letter: they are kept in
search trees and saved runs like any arrays, nobody must say when one is no longer needed, any
worker can step any state, and a resumed run goes on exactly where it was.  A step copies some
kilobytes for that, microseconds against the simulator's own time.

``step`` is a callback out of the compiled program.  All lanes of all agents on a device, however
deeply ``jax.vmap`` is nested, come in one call.  Lanes in an absorbing state are left out,
equal (state, action) pairs are computed once, and results are kept in a memory of bounded size.
Nothing is random here, so none of this can change a result.

Resets are asked for at every step of every acting lane, because under ``vmap`` both branches of
a choice are computed; ``Layout.starts`` should be small enough for the memory, or resets cheap.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from muscope.envs.base import Resumed, Spec, Transition
from muscope.envs.simulator import HostConfig, simulator
from muscope.envs.workers import Maker, Work
from muscope.errors import HostError
from muscope.host_call import host_call
from muscope.host_call import host_errors as host_errors


class Layout(NamedTuple):
    """The fixed sizes of a host environment's arrays."""

    snapshot_bytes: int
    """The longest snapshot."""
    view_shape: tuple[int, ...]
    view_dtype: Any
    starts: int
    """Initial states; ``reset`` draws one of them evenly."""


class HostState(NamedTuple):
    """A state by content."""

    snapshot: UInt8[Array, "bytes"]
    """The simulator's serialised state, padded with zeros."""
    length: Int[Array, ""]
    """Bytes of it that count."""
    memory: Any
    """What the agent has seen: pytree of arrays, see :meth:`HostEnvironment.seen`."""
    lives: Int[Array, ""]
    over: Bool[Array, ""]
    """The game is over."""
    terminated: Bool[Array, ""]
    """The state is absorbing: over, or ended by the training view."""
    points: Float[Array, ""]
    """The game's own reward of the step that led here."""


AnyHost = TypeVar("AnyHost", bound="HostEnvironment")


class HostEnvironment:
    """A host simulator as an environment; see :class:`muscope.envs.base.Environment`.

    Subclasses say what the agent sees (:meth:`seen`, :meth:`observe`).

    Args:
        spec: of the environment.
        maker: makes the simulator's model in a worker; hashable and picklable.
        layout: sizes of its arrays.
        config: how it is run.

    """

    def __init__(self, spec: Spec, maker: Maker, layout: Layout, config: HostConfig):
        self.spec = spec
        self.layout = layout
        self.simulator = simulator(maker, config)
        self._ends_with_a_life = False
        self._clips = False

    def seen(self, view: Array, memory: Any) -> Any:
        """What the agent has seen once ``view`` appears: by default the view itself.

        Args:
            view: of the layout's shape and type.
            memory: what it had seen before; None after a reset.

        """
        return view

    def observe(self, state: HostState) -> Float[Array, "..."]:
        """What the agent sees of ``state``."""
        return state.memory.astype(jnp.float32)

    def reset(self, key: Key[Array, ""]) -> HostState:
        """Draw one of the initial states."""
        start = jax.random.randint(key, (), 0, self.layout.starts)
        landed = self._call(self._reset_on_host, start)
        return self._state(landed, None, landed.over)

    def step(self, state: HostState, action: Int[Array, ""]) -> Transition:
        """s_{t+1} and r_t, computed by a worker."""
        landed = self._call(
            self._step_on_host,
            state.snapshot,
            state.length,
            jnp.asarray(action, jnp.int32),
            state.terminated,
        )
        ended = landed.over
        if self._ends_with_a_life:
            ended |= landed.lives < state.lives
        moved = self._state(landed, state.memory, ended)
        moved = jax.tree.map(lambda old, new: jnp.where(state.terminated, old, new), state, moved)
        reward = jnp.sign(landed.reward) if self._clips else landed.reward
        reward = jnp.where(state.terminated, 0.0, reward)
        return Transition(moved, reward, moved.terminated)

    def _state(self, landed: _Landed, memory: Any, terminated: Bool[Array, ""]) -> HostState:
        return HostState(
            landed.snapshot,
            landed.length,
            self.seen(landed.view, memory),
            landed.lives,
            landed.over,
            terminated,
            landed.reward,
        )

    def as_training(self: AnyHost, ends_with_a_life: bool, clips: bool, time_limit: int) -> AnyHost:
        """The same game as a training problem, over the same states.

        Args:
            ends_with_a_life: a lost life is a termination.
            clips: the reward is its sign.
            time_limit: steps after which an episode is cut.

        """
        view = copy.copy(self)
        view.spec = self.spec._replace(time_limit=time_limit)
        view._ends_with_a_life, view._clips = ends_with_a_life, clips
        return view

    def resume(self, state: HostState) -> Resumed:
        """Where the game goes on, if it does."""
        return Resumed(state._replace(terminated=state.over), state.over, state.points)

    def _call(self, on_host: Callable[..., None], *arguments: Array) -> _Landed:
        """``on_host(outputs, *arguments)`` as an operation of the compiled program."""
        layout = self.layout
        shapes = _Landed(
            jax.ShapeDtypeStruct((layout.snapshot_bytes,), np.uint8),
            jax.ShapeDtypeStruct((), np.int32),
            jax.ShapeDtypeStruct(layout.view_shape, layout.view_dtype),
            jax.ShapeDtypeStruct((), np.float32),
            jax.ShapeDtypeStruct((), np.int32),
            jax.ShapeDtypeStruct((), np.bool_),
        )
        return host_call(on_host, shapes, *arguments)

    def _reset_on_host(self, outputs: _Landed, start: np.ndarray) -> None:
        work = [Work(None, int(number)) for number in start.ravel()]
        self._run(outputs, work, range(len(work)))

    def _step_on_host(
        self,
        outputs: _Landed,
        snapshot: np.ndarray,
        length: np.ndarray,
        action: np.ndarray,
        terminated: np.ndarray,
    ) -> None:
        rows = snapshot.reshape(-1, snapshot.shape[-1])
        lanes = np.flatnonzero(~terminated.ravel())
        work = [Work(rows[i, : length.flat[i]].tobytes(), int(action.flat[i])) for i in lanes]
        self._run(outputs, work, lanes)

    def _run(self, outputs: _Landed, work: list[Work], lanes: Sequence[int] | np.ndarray) -> None:
        """Do the work and write result i into lane ``lanes[i]``; other lanes become 0."""
        steps = self.simulator(work)
        longest = max((len(step.snapshot) for step in steps), default=0)
        if longest > self.layout.snapshot_bytes:
            raise HostError(
                f"{self.spec.name}: a snapshot of {longest} bytes does not fit into "
                f"{self.layout.snapshot_bytes}; its layout must allow for more."
            )
        flat = _Landed(
            outputs.snapshot.reshape(-1, self.layout.snapshot_bytes),
            outputs.length.reshape(-1),
            outputs.view.reshape(-1, *self.layout.view_shape),
            outputs.reward.reshape(-1),
            outputs.lives.reshape(-1),
            outputs.over.reshape(-1),
        )
        for array in flat:
            array[...] = 0
        for lane, step in zip(lanes, steps, strict=True):
            size = len(step.snapshot)
            flat.snapshot[lane, :size] = np.frombuffer(step.snapshot, np.uint8)
            flat.length[lane] = size
            flat.view[lane] = step.view
            flat.reward[lane] = step.reward
            flat.lives[lane] = step.lives
            flat.over[lane] = step.over


class _Landed(NamedTuple):
    """The callback's outputs, one entry per lane."""

    snapshot: Any
    length: Any
    view: Any
    reward: Any
    lives: Any
    over: Any
