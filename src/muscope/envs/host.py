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

from muscope.config.environment import HostConfig
from muscope.envs.base import Resumed, Spec, Transition, step_out
from muscope.envs.simulator import simulator
from muscope.envs.trial import check_restores
from muscope.envs.workers import HostStep, Maker, Playout, Work
from muscope.errors import ConfigError, HostError
from muscope.host_call import host_call


class Layout(NamedTuple):
    """The fixed sizes of a host environment's arrays."""

    snapshot_bytes: int
    """The longest snapshot."""
    view: Any
    """Shapes and types of :attr:`muscope.envs.workers.HostStep.view`: one
    ``jax.ShapeDtypeStruct``, or a named tuple of them."""
    starts: int
    """Initial states; ``reset`` draws one of them evenly."""

    @classmethod
    def like(cls, step: HostStep, snapshot_bytes: int, starts: int) -> Layout:
        """The layout of an environment whose steps look like this one."""
        return cls(snapshot_bytes, _shapes(step.view), starts)


def _shapes(view: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), view)


class HostState(NamedTuple):
    """A state by content."""

    snapshot: UInt8[Array, "bytes"]
    """The simulator's serialised state, padded with zeros."""
    length: Int[Array, ""]
    """Bytes of it that count."""
    memory: Any
    """What the agent has seen: pytree of arrays, see :meth:`HostEnvironment.seen`."""
    over: Bool[Array, ""]
    """The game is over."""
    terminated: Bool[Array, ""]
    """The state is absorbing: over, or ended by the training view."""
    points: Float[Array, ""]
    """The game's own reward of the step that led here."""


AnyHost = TypeVar("AnyHost", bound="HostEnvironment")


class HostEnvironment:
    """A host simulator as an environment; see :class:`muscope.envs.base.Environment`.

    Subclasses say what the agent sees (:meth:`seen`, :meth:`observe`), and how a training view,
    where there is one, differs from the game (:meth:`ended`, :meth:`reward`).

    Args:
        spec: of the environment.
        maker: makes the simulator's model in a worker; hashable and picklable.
        layout: sizes of its arrays.
        config: how it is run.

    Raises:
        ConfigError: the model is not deterministic or cannot be restored
            (:mod:`muscope.envs.trial`), or does not fit the layout.

    """

    def __init__(self, spec: Spec, maker: Maker, layout: Layout, config: HostConfig):
        trial = check_restores(maker, spec.name, spec.num_actions, layout.starts)
        if _shapes(trial.first.view) != layout.view:
            raise ConfigError(
                f"'{spec.name}' shows {_shapes(trial.first.view)}; its layout says {layout.view}."
            )
        self.spec = spec
        self.layout = layout
        self.simulator = simulator(maker, config)
        self.simulator.playing = trial.playing
        self.in_training = False

    def seen(self, view: Any, memory: Any) -> Any:
        """What the agent has seen once ``view`` appears: by default the view itself.

        Args:
            view: of the layout's shapes and types.
            memory: what it had seen before; None after a reset.

        """
        return view

    def observe(self, state: HostState) -> Float[Array, "..."]:
        """What the agent sees of ``state``."""
        return state.memory.astype(jnp.float32)

    def ended(self, before: Any, after: Any) -> Bool[Array, ""]:
        """Whether a step ends the training view's episode although the game goes on.

        Args:
            before: what had been seen, see :meth:`seen`.
            after: what has been seen after the step.

        """
        return jnp.array(False)

    ended_in_play = ended
    """The ``ended`` that the model's own ``play`` knows, if it is one of
    :class:`muscope.envs.workers.PlayingModel`; a subclass with another ``ended`` is stepped."""

    def reward(self, points: Float[Array, ""]) -> Float[Array, ""]:
        """The training view's reward for a step that scores ``points`` in the game."""
        return points

    def reset(self, key: Key[Array, ""]) -> HostState:
        """Draw one of the initial states."""
        start = jax.random.randint(key, (), 0, self.layout.starts)
        landed = self._call(self._reset_on_host, start)
        return self._state(landed, self.seen(landed.view, None), landed.over)

    def step(self, state: HostState, action: Int[Array, ""]) -> Transition:
        """s_{t+1} and r_t, computed by a worker."""
        landed = self._call(
            self._step_on_host,
            state.snapshot,
            state.length,
            jnp.asarray(action, jnp.int32),
            state.terminated,
        )
        memory = self.seen(landed.view, state.memory)
        terminated, reward = landed.over, landed.reward
        if self.in_training:
            terminated |= self.ended(state.memory, memory)
            reward = self.reward(reward)
        moved = self._state(landed, memory, terminated)
        moved = jax.tree.map(lambda old, new: jnp.where(state.terminated, old, new), state, moved)
        reward = jnp.where(state.terminated, 0.0, reward)
        return Transition(moved, reward, moved.terminated)

    def play_out(
        self, state: HostState, actions: Int[Array, "H"], length: Int[Array, ""]
    ) -> Float[Array, "H"]:
        """See :func:`muscope.envs.base.play_out`; in one go, if the model can."""
        if not self.plays_in_one_go():
            return step_out(self, state, actions, length)
        points = host_call(
            self._play_on_host,
            jax.ShapeDtypeStruct(actions.shape, np.float32),
            state.snapshot,
            state.length,
            jnp.asarray(actions, jnp.int32),
            jnp.where(state.terminated, 0, length),
        )
        return jax.vmap(self.reward)(points) if self.in_training else points

    def plays_in_one_go(self) -> bool:
        """Whether the model can, and a subclass's steps and ends are those it knows."""
        kind = type(self)
        same_end = not self.in_training or kind.ended is kind.ended_in_play
        return self.simulator.playing and kind.step is HostEnvironment.step and same_end

    @staticmethod
    def _state(landed: _Landed, memory: Any, terminated: Bool[Array, ""]) -> HostState:
        return HostState(
            landed.snapshot, landed.length, memory, landed.over, terminated, landed.reward
        )

    def as_training(self: AnyHost, time_limit: int) -> AnyHost:
        """The same game as a training problem, over the same states; :meth:`ended` and
        :meth:`reward` hold in it.

        Args:
            time_limit: steps after which an episode is cut.

        """
        view = copy.copy(self)
        view.spec = self.spec._replace(time_limit=time_limit)
        view.in_training = True
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
            layout.view,
            jax.ShapeDtypeStruct((), np.float32),
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

    def _play_on_host(
        self,
        points: np.ndarray,
        snapshot: np.ndarray,
        size: np.ndarray,
        actions: np.ndarray,
        length: np.ndarray,
    ) -> None:
        horizon = actions.shape[-1]
        rows, chosen = snapshot.reshape(-1, snapshot.shape[-1]), actions.reshape(-1, horizon)
        lanes = np.flatnonzero(length.ravel() > 0)
        work = [
            Playout(
                rows[i, : size.flat[i]].tobytes(),
                chosen[i, : length.flat[i]].tolist(),
                self.in_training,
            )
            for i in lanes
        ]
        out = points.reshape(-1, horizon)
        out[...] = 0
        for lane, rewards in zip(lanes, self.simulator.play(work), strict=True):
            out[lane, : len(rewards)] = rewards

    def _run(self, outputs: _Landed, work: list[Work], lanes: Sequence[int] | np.ndarray) -> None:
        """Do the work and write result i into lane ``lanes[i]``; other lanes become 0."""
        steps = self.simulator(work)
        longest = max((len(step.snapshot) for step in steps), default=0)
        if longest > self.layout.snapshot_bytes:
            raise HostError(
                f"{self.spec.name}: a snapshot of {longest} bytes does not fit into "
                f"{self.layout.snapshot_bytes}; its layout must allow for more."
            )
        self._write(outputs, steps, lanes)

    def _write(
        self, outputs: _Landed, steps: list[HostStep], lanes: Sequence[int] | np.ndarray
    ) -> None:
        """Results into their lanes of the callback's arrays."""
        snapshots = outputs.snapshot.reshape(-1, self.layout.snapshot_bytes)
        lengths, rewards = outputs.length.reshape(-1), outputs.reward.reshape(-1)
        overs = outputs.over.reshape(-1)
        views = [
            array.reshape(-1, *shape.shape)
            for array, shape in zip(
                jax.tree.leaves(outputs.view), jax.tree.leaves(self.layout.view), strict=True
            )
        ]
        for array in (snapshots, lengths, *views, rewards, overs):
            array[...] = 0
        for lane, step in zip(lanes, steps, strict=True):
            size = len(step.snapshot)
            snapshots[lane, :size] = np.frombuffer(step.snapshot, np.uint8)
            lengths[lane], rewards[lane], overs[lane] = size, step.reward, step.over
            for array, part in zip(views, jax.tree.leaves(step.view), strict=True):
                array[lane] = part


class _Landed(NamedTuple):
    """The callback's outputs, one entry per lane."""

    snapshot: Any
    length: Any
    view: Any
    reward: Any
    over: Any
