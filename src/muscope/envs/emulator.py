"""The Atari emulator (ALE) as a host simulator; what runs in the worker processes.

Exact restoring has two conditions, both met here: no sticky actions, and a screen is never
read before a frame has been emulated, because the one that a restored emulator shows is stale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from muscope.envs.workers import HostStep, Played
from muscope.errors import ConfigError, nearest

SEED = 0  # of the emulator's own random numbers, which nothing but its power-up uses


class Look(NamedTuple):
    """What there is to see of a game."""

    screen: UInt8[np.ndarray, "height width channels"]
    """The maximum of a step's last two frames."""
    lives: np.int32
    """Lives left; constant in a game without lives."""


@dataclass(frozen=True)
class EmulatorMaker:
    """Makes emulators of one game.

    Raises:
        ConfigError: ale-py is missing, or it has no such game.

    """

    game: str
    """The game's name in ALE, such as breakout or ms_pacman."""
    grey: bool
    """Read grey screens rather than colours."""
    frame_skip: int
    fire: bool = False
    """Press FIRE for a step when a game has begun and when a life is lost; see
    :attr:`muscope.envs.atari.AtariConfig.fire`."""
    ends_with_a_life: bool = True
    """A lost life ends the training view's episode."""

    def __call__(self) -> Emulator:
        return Emulator(self)


class Emulator:
    """One emulator; a :class:`muscope.envs.workers.HostModel` whose views are :class:`Look` s.

    Attributes:
        num_actions: size of the game's minimal action set.
        action_names: of its buttons.

    """

    def __init__(self, maker: EmulatorMaker):
        try:
            import ale_py
            from ale_py import roms
        except ImportError as error:
            raise ConfigError(
                "Atari games need the package ale-py: pip install 'muscope[atari]'."
            ) from error
        known = roms.get_all_rom_ids()
        if maker.game not in known:
            raise ConfigError(f"unknown Atari game '{maker.game}'.{nearest(maker.game, known)}")
        self._maker = maker
        self._restored = ale_py.ALEState
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale: Any = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", 0.0)
        self._ale.setInt("random_seed", SEED)
        self._ale.loadROM(str(roms.get_rom_path(maker.game)))
        self._actions = self._ale.getMinimalActionSet()
        self.num_actions = len(self._actions)
        self.action_names = tuple(action.name.lower() for action in self._actions)
        fires = maker.fire and ale_py.Action.FIRE in self._actions
        self._fire = ale_py.Action.FIRE if fires else None
        # The emulator's own reset depends on what was played before; this does not.
        self._ale.reset_game()
        self._power_up = self._ale.cloneState()

    def reset(self, start: int) -> HostStep:
        """The game after ``start`` + 1 frames without action, and with a ball if FIRE serves it."""
        self._ale.restoreState(self._power_up)
        for _ in range(start + 1):
            self._ale.act(0)
        if self._fire is None:
            return self._here(self._screen(), 0.0)
        return self._here(*self._play(self._fire))

    def step(self, snapshot: bytes, action: int) -> HostStep:
        """One action from a state; after a lost life FIRE too, if the maker says so."""
        self._ale.restoreState(self._restored(snapshot))
        lives = self._ale.lives()
        screen, reward = self._play(self._actions[action])
        if self._serves(lives):
            screen, more = self._play(self._fire)
            reward += more
        return self._here(screen, reward)

    def play(self, snapshot: bytes, actions: Sequence[int], training: bool) -> list[Played]:
        """Some actions, without looking at the screen; see
        :class:`muscope.envs.workers.PlayingModel`.
        """
        ale, played = self._ale, []
        ale.restoreState(self._restored(snapshot))
        ends_with_a_life = training and self._maker.ends_with_a_life
        for action in actions:
            lives = ale.lives()
            reward = self._act(self._actions[action])
            if self._serves(lives):
                reward += self._act(self._fire)
            ended = ale.game_over() or (ends_with_a_life and ale.lives() < lives)
            played.append(Played(ale.cloneState().serialize(), float(reward), bool(ended)))
            if ended:
                break
        return played

    def _serves(self, lives: int) -> bool:
        """Whether FIRE is pressed now, after a step that began with so many lives."""
        return self._fire is not None and self._ale.lives() < lives and not self._ale.game_over()

    def _play(self, action: Any) -> tuple[UInt8[np.ndarray, "height width channels"], float]:
        """One action: the maximum of its last two screens, and the points."""
        screens: list[Any] = []
        reward = self._act(action, screens)
        return np.maximum(screens[0], screens[-1]), reward

    def _act(self, action: Any, screens: list[Any] | None = None) -> float:
        """The points of one action for ``frame_skip`` frames, fewer if the game ends; the screens
        of the last two go into a list, if there is one.
        """
        reward = 0.0
        for frame in range(self._maker.frame_skip):
            reward += self._ale.act(action)
            over = self._ale.game_over()
            if screens is not None and (over or frame >= self._maker.frame_skip - 2):
                screens.append(self._screen())
            if over:
                break
        return reward

    def _screen(self) -> UInt8[np.ndarray, "height width channels"]:
        if self._maker.grey:
            return self._ale.getScreenGrayscale()[..., None]
        return self._ale.getScreenRGB()

    def _here(self, screen: np.ndarray, reward: float) -> HostStep:
        ale = self._ale
        snapshot = ale.cloneState().serialize()
        look = Look(screen, np.int32(ale.lives()))
        return HostStep(snapshot, look, float(reward), bool(ale.game_over()))
