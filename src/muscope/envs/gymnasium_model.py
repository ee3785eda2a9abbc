"""A Gymnasium environment as a host simulator; what runs in the worker processes."""

from __future__ import annotations

import copyreg
import io
import json
import pickle
import random
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from muscope.envs.workers import HostStep, Played
from muscope.errors import ConfigError, nearest

CONSTANT = ("spec", "action_space", "observation_space", "metadata", "_np_random_seed")
"""Attributes of an environment that its future does not depend on."""
FRESH: dict[type, Any] = {
    np.random.Generator: lambda _: (np.random.default_rng, ()),
    np.random.RandomState: lambda _: (np.random.RandomState, ()),
    random.Random: lambda _: (random.Random, ()),
}
"""How random generators are pickled: each comes back as a new one."""
DRAWING = "pygame"  # the package whose objects only draw


@dataclass(frozen=True)
class GameMaker:
    """Makes models of one Gymnasium environment.

    Raises:
        ConfigError: Gymnasium is missing, or the environment is unknown or of a kind that
            cannot be used.

    """

    name: str
    """Its id in Gymnasium, ``module:ID`` if a module must be imported first."""
    kwargs: str
    """JSON, what ``gymnasium.make`` gets besides."""

    def __call__(self) -> Game:
        return Game(self)


class Game:
    """One environment without its wrappers; a :class:`muscope.envs.workers.HostModel`.

    A snapshot is the environment's attributes as bytes, compressed, without random generators:
    a restored environment has fresh ones, so one that draws in ``step`` does not go on the same
    way twice and is refused (:mod:`muscope.envs.trial`).  A view is the observation as numbers.

    Attributes:
        num_actions: of its discrete actions.
        time_limit: steps that Gymnasium allows; None if it sets no limit.

    """

    def __init__(self, maker: GameMaker):
        self._name = f"gymnasium:{maker.name}"
        made = _made(maker)
        self._game = made.unwrapped
        self.time_limit = made.spec and made.spec.max_episode_steps
        if made.spec and made.spec.additional_wrappers:
            raise ConfigError(f"{self._name} comes with wrappers, whose state cannot be copied.")
        self._first_action, self.num_actions = self._actions(self._game.action_space)
        self._space = self._game.observation_space
        self._is_discrete = type(self._space).__name__ == "Discrete"
        if not self._is_discrete and type(self._space).__name__ != "Box":
            raise ConfigError(
                f"{self._name} has {type(self._space).__name__} observations; only Box and "
                "Discrete ones can be learned from."
            )
        self._game.reset(seed=0)
        self._fresh = self._snapshot()

    def _actions(self, space: Any) -> tuple[int, int]:
        if type(space).__name__ != "Discrete":
            raise ConfigError(
                f"{self._name} has {type(space).__name__} actions; only Discrete ones can be "
                "searched."
            )
        return int(space.start), int(space.n)

    def reset(self, start: int) -> HostStep:
        """The initial state that the seed ``start`` gives, whatever was played before."""
        self._restore(self._fresh)
        observation, _ = self._game.reset(seed=start)
        return HostStep(self._snapshot(), self._view(observation), 0.0, False)

    def step(self, snapshot: bytes, action: int) -> HostStep:
        """One step from a copy; a truncation of the environment's own is an end."""
        self._restore(snapshot)
        return self.go_on(action)

    def go_on(self, action: int) -> HostStep:
        """One step from where the environment stands."""
        observation, reward, over = self._advance(action)
        return HostStep(self._snapshot(), self._view(observation), reward, over)

    def play(self, snapshot: bytes, actions: Sequence[int], training: bool) -> list[Played]:
        """Some actions; see :class:`muscope.envs.workers.PlayingModel`.  A snapshot takes longer
        than most games' steps.
        """
        self._restore(snapshot)
        played: list[Played] = []
        for action in actions:
            _, reward, over = self._advance(action)
            played.append(Played(None, reward, over))
            if over:
                break
        return played

    def _advance(self, action: int) -> tuple[Any, float, bool]:
        observation, reward, terminated, truncated, _ = self._game.step(self._first_action + action)
        return observation, _scalar(reward), bool(terminated or truncated)

    def _view(self, observation: Any) -> Float[np.ndarray, "size"]:
        if self._is_discrete:
            place = int(observation) - int(self._space.start)
            return np.eye(1, int(self._space.n), place, dtype=np.float32)[0]
        return np.array(observation, np.float32).ravel()

    def _snapshot(self) -> bytes:
        state = {name: value for name, value in vars(self._game).items() if _counts(name, value)}
        try:
            return zlib.compress(_pickled(state), 1)
        except Exception as error:
            guilty = next((n for n, v in state.items() if not _can_be_pickled(v)), "state")
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"{self._name} cannot be copied, so it cannot serve as the true model: its "
                f"attribute '{guilty}' cannot be pickled ({reason})."
            ) from error

    def _restore(self, snapshot: bytes) -> None:
        game = vars(self._game)
        kept = {name: value for name, value in game.items() if not _counts(name, value)}
        game.clear()
        game.update(pickle.loads(zlib.decompress(snapshot)), **kept)


def _made(maker: GameMaker) -> Any:
    """The environment as Gymnasium makes it."""
    try:
        import gymnasium
    except ImportError as error:
        raise ConfigError(
            "Gymnasium's environments need the package gymnasium: pip install 'muscope[gymnasium]'."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old versions; the name says which is meant
            return gymnasium.make(maker.name, disable_env_checker=True, **json.loads(maker.kwargs))
    except gymnasium.error.UnregisteredEnv as error:
        close = nearest(maker.name, gymnasium.registry)
        raise ConfigError(f"unknown Gymnasium environment '{maker.name}'.{close}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"making 'gymnasium:{maker.name}' failed: {reason}") from error


def _counts(name: str, value: Any) -> bool:
    """Whether an attribute is part of a state."""
    draws = type(value).__module__.partition(".")[0] == DRAWING
    return name not in CONSTANT and not draws


def _scalar(reward: Any) -> float:
    values = np.asarray(reward, np.float64)
    if values.size != 1:
        raise ValueError(f"a reward of shape {values.shape}; it must be one number")
    return float(values.reshape(()))


def _pickled(value: Any) -> bytes:
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=5)
    pickler.dispatch_table = {**copyreg.dispatch_table, **FRESH}
    pickler.dump(value)
    return file.getvalue()


def _can_be_pickled(value: Any) -> bool:
    try:
        _pickled(value)
    except Exception:
        return False
    return True
