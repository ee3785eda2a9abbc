"""Whether an experiment fits into memory, counted before any work.

An experiment's ``memory`` gives the parts of what one agent takes while it is examined; what all
experiments share, the on-policy episodes and states, is counted here.  Everything is arithmetic
on :class:`Sizes`, the bytes of one state, one latent state and one search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from muscope.config import EvaluateConfig
from muscope.experiments.lab import group_size
from muscope.room import Part, nbytes, refuse, widest
from muscope.search.tree import bytes_per_root
from muscope.subjects import Subject

if TYPE_CHECKING:
    from muscope.experiments.plans import Plan


@dataclass(frozen=True)
class Sizes:
    """Of a subject's things, one of each."""

    actions: int
    time_limit: int
    unroll: int
    """K"""
    simulations: int
    """N of the agents' own search"""
    state: Any
    """Shapes of a true state."""
    latent: Any
    """Shapes of a latent state."""
    forward: int
    """Bytes that an agent's pass over one observation needs."""

    @classmethod
    def of(cls, subject: Subject) -> Sizes:
        """The sizes of a subject, without making anything."""
        environment = subject.environment
        agent, spec = subject.form(), environment.spec
        state = jax.eval_shape(environment.reset, jax.random.key(0))
        observation = jax.ShapeDtypeStruct(spec.observation_shape, jnp.float32)

        def predicted(agent: Any, observation: Any) -> Any:
            return agent.predict(agent.represent(observation))

        return cls(
            spec.num_actions,
            spec.time_limit,
            subject.unroll,
            subject.search.simulations,
            state,
            jax.eval_shape(lambda agent, seen: agent.represent(seen), agent, observation),
            nbytes(observation) + 2 * widest(predicted, agent, observation),
        )

    @property
    def place(self) -> int:
        """Bytes of a state and its latent state, each twice: before and after a step."""
        return 2 * (nbytes(self.state) + nbytes(self.latent))

    def search(self, simulations: int = 0, *, true: bool = False, learned: bool = True) -> int:
        """Bytes of one root's search.

        Args:
            simulations: N; 0 for the agents' own.
            true: nodes hold true states.
            learned: nodes hold latent states.

        """
        node = ([self.state] * true, [self.latent] * learned)
        tree = bytes_per_root(node, self.actions, simulations or self.simulations)
        return tree + self.forward + self.place


def of_sequences(name: str, starts: int, horizon: int, each: int) -> list[Part]:
    """Action sequences that are followed in the environment and in the model.

    Args:
        name: of the experiment.
        starts: M x R.
        horizon: h.
        each: bytes that a step of one takes.

    """
    lower = f"{name}.sequences, evaluate.states"
    # Keys, actions, rewards of both, ends, and the differences of reports.
    return [
        Part("its action sequences", starts * each, lower),
        Part("their rewards", starts * horizon * 40, f"{name}.horizon, {lower}"),
    ]


def on_policy(sizes: Sizes, evaluate: EvaluateConfig) -> list[Part]:
    """The episodes of pi_MuZero, and the states drawn from them."""
    episode = sizes.search() + 4 * sizes.time_limit
    return [
        Part("their searches", evaluate.episodes * episode, "evaluate.episodes"),
        Part("the states drawn", 2 * evaluate.states * sizes.place, "evaluate.states"),
    ]


def needs(subject: Subject, plans: Sequence[Plan]) -> Iterator[tuple[str, list[Part]]]:
    """What experiments take of one memory: tasks in words, with their parts for all agents that
    share it.

    Args:
        subject: who is examined.
        plans: experiments with their settings; one without ``memory`` is not counted.

    """
    if not any(plan.experiment.memory or plan.experiment.states for plan in plans):
        return
    sizes = Sizes.of(subject)
    for plan in plans:
        at_once = _agents_at_once(subject, plan.evaluate)
        if plan.experiment.states:
            parts = on_policy(sizes, plan.evaluate)
            yield "playing the on-policy episodes", _times(parts, at_once)
        if plan.experiment.memory is not None:
            parts = plan.experiment.memory(sizes, plan.evaluate, plan.settings)
            yield plan.experiment.name, _times(parts, at_once)


def refuse_what_does_not_fit(subject: Subject, plans: Sequence[Plan]) -> None:
    """Refuse experiments that take more memory than there is.

    Raises:
        ConfigError: one does; the message names the greatest part.

    """
    for task, parts in needs(subject, plans):
        refuse(task, parts, jax.local_devices()[0])


def _times(parts: Sequence[Part], agents: int) -> list[Part]:
    return [part._replace(size=agents * part.size) for part in parts]


def _agents_at_once(subject: Subject, evaluate: EvaluateConfig) -> int:
    """Agents that share one memory while they are examined."""
    devices = jax.local_devices()
    together = group_size(max(map(len, subject.blocks)), evaluate.agents_at_once)
    shared = devices[0].platform == "cpu"  # CPU devices share one memory.
    used = min(together, len(devices))
    if subject.in_turn:
        return used if shared else 1
    return together if shared else -(-together // used)
