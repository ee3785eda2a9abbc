"""Host simulators for tests; a module of their own, so that worker processes can import it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from muscope.config.environment import HostConfig
from muscope.envs.base import Spec
from muscope.envs.host import HostEnvironment, Layout
from muscope.envs.workers import HostStep, Played


class GymnasiumCartPole:
    """Gymnasium's Cart Pole behind the host seam: its state is four float64 numbers."""

    def __init__(self):
        self.game = gymnasium.make("CartPole-v1").unwrapped

    def reset(self, start: int) -> HostStep:
        self.game.reset(seed=start)
        return self._here(0.0, False)

    def step(self, snapshot: bytes, action: int) -> HostStep:
        self.game.reset()
        self.game.state = np.frombuffer(snapshot, np.float64)
        _, reward, terminated, _, _ = self.game.step(action)
        return self._here(float(reward), terminated)

    def _here(self, reward: float, over: bool) -> HostStep:
        state = np.asarray(self.game.state, np.float64)
        return HostStep(state.tobytes(), state.astype(np.float32), reward, over)


def host_cart_pole(config: HostConfig) -> HostEnvironment:
    spec = Spec("host-cart-pole", num_actions=2, observation_shape=(4,), time_limit=500)
    view = jax.ShapeDtypeStruct((4,), np.float32)
    return HostEnvironment(spec, GymnasiumCartPole, Layout(32, view, starts=2**31 - 1), config)


@dataclass(frozen=True)
class CounterMaker:
    """Makes :class:`Counter` s; a file that appears in ``folder`` kills or fails a worker."""

    folder: Path

    def __call__(self) -> Counter:
        return Counter(self.folder)


class CounterView(NamedTuple):
    """The count and who counted, and the lives that are left."""

    count: Any
    lives: Any


class Counter:
    """Adds actions up; a life is lost at every multiple of 5, and at 20 the game is over."""

    def __init__(self, folder: Path):
        self.folder = folder

    def reset(self, start: int) -> HostStep:
        return self._at(start, 0.0)

    def step(self, snapshot: bytes, action: int) -> HostStep:
        value = int.from_bytes(snapshot, "little")
        if value == 6 and (self.folder / "always").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if value == 6 and (self.folder / "once").exists():
            (self.folder / "once").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if value == 6 and (self.folder / "fail").exists():
            raise ValueError("the counter is stuck")
        return self._at(value + action, 3.0 * action)

    @staticmethod
    def _at(value: int, reward: float) -> HostStep:
        count = np.array([value, os.getpid()], np.int32)
        snapshot = value.to_bytes(1 + value % 3, "little")
        view = CounterView(count, np.int32(4 - value // 5))
        return HostStep(snapshot, view, reward, value >= 20)


class CounterEnvironment(HostEnvironment):
    """The counter with a training view in which a lost life ends the episode."""

    maker = CounterMaker

    def __init__(self, folder: Path, config: HostConfig):
        spec = Spec("counter", num_actions=4, observation_shape=(1,), time_limit=50)
        whole = np.dtype(np.int32)
        view = CounterView(jax.ShapeDtypeStruct((2,), whole), jax.ShapeDtypeStruct((), whole))
        super().__init__(spec, self.maker(folder), Layout(4, view, starts=3), config)

    def observe(self, state):
        return state.memory.count[:1].astype(np.float32)

    def training(self):
        return self.as_training(time_limit=30)

    def ended(self, before, after):
        return after.lives < before.lives

    def reward(self, points):
        return jnp.sign(points)


@dataclass(frozen=True)
class PlayingMaker(CounterMaker):
    """Makes :class:`Playing` counters."""

    def __call__(self) -> Playing:
        return Playing(self.folder)


class Playing(Counter):
    """A counter that follows given actions by itself, and says how often it did."""

    def play(self, snapshot: bytes, actions: Sequence[int], training: bool) -> list[Played]:
        (self.folder / "played").touch()
        value, played = int.from_bytes(snapshot, "little"), []
        for action in actions:
            lives, value = value // 5, value + action
            ended = value >= 20 or (training and value // 5 > lives)
            played.append(Played(self._at(value, 0.0).snapshot, 3.0 * action, ended))
            if ended:
                break
        return played


@dataclass(frozen=True)
class WronglyPlayingMaker(CounterMaker):
    """Makes counters whose own play pays too much."""

    def __call__(self) -> WronglyPlaying:
        return WronglyPlaying(self.folder)


class WronglyPlaying(Playing):
    """It pays 1 more for every action."""

    def play(self, snapshot: bytes, actions: Sequence[int], training: bool) -> list[Played]:
        played = super().play(snapshot, actions, training)
        return [step._replace(reward=step.reward + 1.0) for step in played]


class PlayingEnvironment(CounterEnvironment):
    """The counter's environment; its ends are those that the model knows."""

    maker = PlayingMaker
    ended_in_play = CounterEnvironment.ended


class OtherEnd(PlayingEnvironment):
    """It ends its training view elsewhere, which the model does not know."""

    def ended(self, before, after):
        return after.count[0] % 2 == 1


class OtherStep(PlayingEnvironment):
    """Its steps pay twice as much."""

    def step(self, state, action):
        moved = super().step(state, action)
        return moved._replace(reward=2 * moved.reward)


@dataclass(frozen=True)
class FaultyMaker:
    """Makes counters with one fault each."""

    fault: str

    def __call__(self) -> Faulty:
        return Faulty(self.fault)


class Faulty:
    """Adds actions up, and does one thing that a true model must not do."""

    def __init__(self, fault: str):
        self.fault = fault
        self.steps = 0

    def reset(self, start: int) -> HostStep:
        self.steps += self.fault == "counts resets"
        return self._at(start + 7 * (self.steps if self.fault == "counts resets" else 0), 0.0)

    def step(self, snapshot: bytes, action: int) -> HostStep:
        value = int.from_bytes(snapshot, "little")
        self.steps += 1
        if self.fault == "fails":
            raise ValueError("stuck\nfor good")
        if self.fault == "differs by process":
            return self._at(value + action, float(id(self)))
        if self.fault == "seldom random" and np.random.default_rng().random() < 0.1:
            return self._at(value + action + 1, 0.0)
        if self.fault == "tires":
            return self._at(value + action, float(self.steps > 5))
        moved = self._at(value + action, 0.0)
        if self.fault == "ends at times":
            moved = moved._replace(over=self.steps % 2 == 0)
        if self.fault == "stamps":
            moved = moved._replace(snapshot=moved.snapshot + bytes([self.steps % 256]))
        return moved

    def _at(self, value: int, reward: float) -> HostStep:
        view = np.array([value, value], np.float32)
        return HostStep(value.to_bytes(2, "little"), view, reward, False)


@dataclass(frozen=True)
class QuittingMaker:
    """Makes nothing: it ends its process."""

    def __call__(self):
        raise SystemExit("cannot go on")
