"""Host simulators for tests; a module of their own, so that worker processes can import it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np

from muscope.envs.base import Spec
from muscope.envs.host import HostEnvironment, Layout
from muscope.envs.simulator import HostConfig
from muscope.envs.workers import HostStep


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
        return HostStep(state.tobytes(), state.astype(np.float32), reward, over, 1)


def host_cart_pole(config: HostConfig) -> HostEnvironment:
    spec = Spec("host-cart-pole", num_actions=2, observation_shape=(4,), time_limit=500)
    return HostEnvironment(
        spec, GymnasiumCartPole, Layout(32, (4,), np.float32, starts=2**31 - 1), config
    )


@dataclass(frozen=True)
class CounterMaker:
    """Makes :class:`Counter` s; a file that appears in ``folder`` kills or fails a worker."""

    folder: Path

    def __call__(self) -> Counter:
        return Counter(self.folder)


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
        view = np.array([value, os.getpid()], np.int32)
        snapshot = value.to_bytes(1 + value % 3, "little")
        return HostStep(snapshot, view, reward, value >= 20, 4 - value // 5)


class CounterEnvironment(HostEnvironment):
    """The counter with a training view in which a lost life ends the episode."""

    def __init__(self, folder: Path, config: HostConfig):
        spec = Spec("counter", num_actions=4, observation_shape=(1,), time_limit=50)
        super().__init__(spec, CounterMaker(folder), Layout(4, (2,), np.int32, starts=3), config)

    def observe(self, state):
        return state.memory[:1].astype(np.float32)

    def training(self):
        return self.as_training(ends_with_a_life=True, clips=True, time_limit=30)
