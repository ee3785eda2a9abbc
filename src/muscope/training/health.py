"""What goes wrong in silence while agents train: numbers that are none, targets that are clipped.

A program of its own that looks at the state between two calls, so that it changes no bit of the
training.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from muscope.agent.support import Support, h_transform, h_transform_inverse
from muscope.config import Config
from muscope.errors import DivergedError
from muscope.learning import targets
from muscope.training.agent import AgentState, RoundMetrics

ROOM = 1.2  # A limit that is advised holds this much more than the greatest number seen.


class Health(NamedTuple):
    """One agent after a call; sums and maxima are over the rows that the call has completed."""

    parameters: Bool[Array, ""]
    """All parameters and the optimiser's moments are finite."""
    observations: Bool[Array, ""]
    """All observations in the replay are."""
    rewards: Bool[Array, ""]
    """All rewards in the replay are."""
    rows: Int[Array, ""]
    """Rows that have come."""
    clipped_rewards: Int[Array, ""]
    """Of these, rows whose reward the reward head cannot express."""
    clipped_values: Int[Array, ""]
    """Rows whose n-step value, known now, the value head cannot express."""
    greatest_reward: Float[Array, ""]
    """The largest |reward| of them."""
    greatest_value: Float[Array, ""]
    """The largest |n-step value| of them."""


def health(config: Config, state: AgentState) -> Health:
    """Look at one agent after a call of ``train.call_rounds`` rounds."""
    replay, n = state.replay, config.loss.n_step
    size, lanes = replay.weight.shape
    # Rows are numbered as they come; a call may be longer than the ring.
    back = jnp.arange(min(config.train.call_rounds, size))
    new, complete = replay.written - 1 - back, replay.written - 1 - back - n
    has_value = (complete >= 0) & (complete >= replay.written - size)
    reward = jnp.abs(replay.rows.reward[new % size])

    def value(row: Int[Array, ""], lane: Int[Array, ""]) -> Float[Array, ""]:
        window = targets.window(replay, (row % size) * lanes + lane, n + 1)
        return targets.n_step_values(window, 0, n, config.environment.discount)[0]

    over_lanes = jax.vmap(value, in_axes=(None, 0))
    values = jax.vmap(over_lanes, in_axes=(0, None))(complete, jnp.arange(lanes))
    values = jnp.where(has_value[:, None], jnp.abs(values), 0.0)
    agent = state.agent
    return Health(
        parameters=_finite((agent, state.average, state.optimiser, state.terms)),
        observations=_finite(replay.rows.observation),
        rewards=_finite(replay.rows.reward),
        rows=jnp.int32(back.size * lanes),
        clipped_rewards=jnp.sum(h_transform(reward) > agent.reward_support.limit),
        clipped_values=jnp.sum(h_transform(values) > agent.value_support.limit),
        greatest_reward=jnp.max(reward),
        greatest_value=jnp.max(values),
    )


def _finite(tree: Any) -> Bool[Array, ""]:
    numbers = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.isfinite(x).all() for x in numbers] or [True]))


COUNTED = ("rows", "clipped_rewards", "clipped_values")
GREATEST = ("greatest_reward", "greatest_value")


class Watch:
    """What has been seen of a population since training began.

    Args:
        supports: of the heads, (value, reward).
        agents: their numbers.
        seen: :attr:`seen` of an earlier part of the training; none at its beginning.
        alone: these are all agents of the run.

    """

    def __init__(
        self,
        supports: tuple[Support, Support],
        agents: Sequence[int],
        seen: Mapping[str, Any] | None = None,
        *,
        alone: bool = True,
    ):
        self.alone = alone
        self.value_support, self.reward_support = supports
        self.agents = list(agents)
        self.seen: dict[str, Any] = {
            "diverged": {},
            **{name: [0] * len(self.agents) for name in COUNTED},
            **{name: [0.0] * len(self.agents) for name in GREATEST},
            **(seen or {}),
        }
        """Plain JSON: the step at which agents diverged, by number, and per agent the rows, those
        that were clipped, and the greatest numbers."""

    def can_hold(self) -> str:
        """What the heads can express, in words."""
        return (
            f"the heads express rewards up to ±{_greatest(self.reward_support):.4g} and values up "
            f"to ±{_greatest(self.value_support):.4g} (network.reward_limit, network.value_limit); "
            "what is larger is clipped"
        )

    def look(self, now: Health, metrics: RoundMetrics, step: int) -> None:
        """Take in one call's health and metrics, [P] each, and say what is new.

        Raises:
            DivergedError: an observation or a reward is not finite, or no agent of the run is left.

        """
        for what in ("observations", "rewards"):
            broken = self._numbers(~np.asarray(getattr(now, what)))
            if broken:
                raise DivergedError(
                    f"training stopped at step {step}: the environment gave {_agents(broken)} "
                    f"{what} that are not finite numbers. Mend the environment (a division by "
                    "zero, a number that grows without bound), and train anew"
                )
        self._note_diverged(now, metrics, step)
        self._note_clipped(now)

    def _numbers(self, which: np.ndarray) -> list[int]:
        """The agents that a mask [P] names."""
        return [self.agents[i] for i in np.flatnonzero(which)]

    def _note_diverged(self, now: Health, metrics: RoundMetrics, step: int) -> None:
        own = (metrics.policy_loss, metrics.value_loss, metrics.reward_loss)
        losses = (*own, *metrics.terms.values())
        sound = np.asarray(now.parameters) & np.isfinite([np.asarray(x) for x in losses]).all(0)
        known = self.seen["diverged"]
        new = [agent for agent in self._numbers(~sound) if str(agent) not in known]
        known.update({str(agent): step for agent in new})
        if not new:
            return
        words = (
            f"{_agents(new)} diverged by training step {step}: losses or parameters are not "
            "finite, though observations and rewards are. Likely too large a step: lower "
            "optimiser.learning_rate or optimiser.clip"
        )
        if self.alone and len(known) == len(sound):
            raise DivergedError(f"training stopped: {words}")
        print(
            f"muscope: {words}. All others go on; figures and claims will name it.",
            file=sys.stderr,
        )

    def _note_clipped(self, now: Health) -> None:
        was_clipped = {name: sum(self.seen[name]) for name in COUNTED}
        for name in COUNTED:
            added = np.asarray(getattr(now, name)).tolist()
            self.seen[name] = [a + b for a, b in zip(self.seen[name], added, strict=True)]
        for name in GREATEST:
            new = np.asarray(getattr(now, name)).tolist()
            self.seen[name] = [max(a, b) for a, b in zip(self.seen[name], new, strict=True)]
        for what in ("reward", "value"):
            if sum(self.seen[f"clipped_{what}s"]) and not was_clipped[f"clipped_{what}s"]:
                print(f"muscope: {self._clipped(what)}.", file=sys.stderr)

    def clipped(self) -> list[str]:
        """One sentence for each head whose targets were clipped."""
        return [
            self._clipped(what)
            for what in ("reward", "value")
            if sum(self.seen[f"clipped_{what}s"])
        ]

    def _clipped(self, what: str) -> str:
        support = self.reward_support if what == "reward" else self.value_support
        count, rows = sum(self.seen[f"clipped_{what}s"]), sum(self.seen["rows"])
        greatest = max(self.seen[f"greatest_{what}"])
        return (
            f"{count:,} of {rows:,} {what}s lay beyond ±{_greatest(support):.4g}, the most that "
            f"the {what} head expresses, and were clipped; the greatest was {greatest:.4g}. "
            f"Raise network.{what}_limit to {_in_support_units(ROOM * greatest):.3g}"
        )


def _in_support_units(x: float) -> float:
    return float(h_transform(jnp.float32(x)))


def _greatest(support: Support) -> float:
    return float(h_transform_inverse(jnp.float32(support.limit)))


def _agents(numbers: Any) -> str:
    words = ", ".join(str(int(number)) for number in numbers)
    return f"agent{'s' if len(numbers) > 1 else ''} {words}"
