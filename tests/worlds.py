"""Small environments for tests that reach them by name, as a user's are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from muscope.config.base import Count, Settings
from muscope.envs.base import Spec, Transition


class LineState(NamedTuple):
    """A place on a line."""

    place: jax.Array
    terminated: jax.Array


@dataclass(frozen=True)
class LineOptions(Settings):
    """How long the line is."""

    section = "environment.options"

    length: Count = 5
    """Its last place."""


class Line:
    """Steps right until the end, which pays 1; keeps the contract."""

    Options = LineOptions
    presets = {"quick": {"train": {"steps": 100}}}  # noqa: RUF012

    def __init__(self, options: LineOptions | None = None):
        self.length = (options or LineOptions()).length
        self.spec = Spec("line", num_actions=2, observation_shape=(2,), time_limit=20)

    def reset(self, key):
        return LineState(jax.random.randint(key, (), 0, 2), jnp.array(False))

    def step(self, state, action):
        place = jnp.where(state.terminated, state.place, state.place + action)
        over = place >= self.length
        reward = jnp.where(over & ~state.terminated, 1.0, 0.0)
        return Transition(LineState(place, over), reward, over)

    def observe(self, state):
        return jnp.stack([state.place, self.length]).astype(jnp.float32)


def short_line():
    """A maker without options."""
    return Line(LineOptions(2))


LINE = Line(LineOptions(3))


def broken():
    raise ValueError("no such world\nin two lines")


class Half:
    """No environment."""

    spec = reset = step = None
