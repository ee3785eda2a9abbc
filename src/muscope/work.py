"""What a computation does, counted before any of it is done.

A :class:`Work` is one place of a compiled program: what stands there, how often it is called, one
call after the other, and for how many lanes side by side.  Everything is of one agent, and in the
case of experiments of one checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Kind = Literal[
    "search", "simulation", "model", "prediction", "encoding", "environment", "reset", "update"
]
"""A whole search (its parts are counted beside it); a simulation's way through the tree; g, f and
h of the networks; a step and a reset of the true environment; a gradient update of the networks,
whose lanes are its positions."""


class Work(NamedTuple):
    """One place of a program."""

    kind: Kind
    calls: int
    """One after the other."""
    lanes: int
    """Side by side in one call."""
    nodes: int = 0
    """Of a simulation: those that its tree has room for."""
    played: int = 0
    """Moves of the longest episode, if ``calls`` are so many that all its moves are made; it may
    be over before.  0: the calls do not depend on when an episode ends."""
    given: bool = False
    """Of the environment: its actions are known beforehand, so that it may follow them in one go
    (:func:`muscope.envs.base.play_out`)."""
    program: str = ""
    """The compiled program that the place is in; one of the experiment's own by default."""

    @property
    def amount(self) -> int:
        """Calls times lanes."""
        return self.calls * self.lanes


def total(works: Iterable[Work], kind: Kind) -> int:
    """How often a kind of work is done, all lanes counted."""
    return sum(work.amount for work in works if work.kind == kind)


def given(works: Iterable[Work]) -> int:
    """How many of the environment's steps take actions that are known beforehand."""
    return sum(work.amount for work in works if work.kind == "environment" and work.given)


def within(works: Iterable[Work], program: str = "", played: int = 0) -> list[Work]:
    """The same work in a program of this name, or in episodes of at most so many moves."""
    return [
        work._replace(program=program or work.program, played=played or work.played)
        for work in works
    ]


def acting(calls: int, lanes: int) -> list[Work]:
    """Moves of the policy prior, without planning."""
    return [
        Work("encoding", calls, lanes),
        Work("prediction", calls, lanes),
        Work("environment", calls, lanes),
    ]


def searching(
    calls: int,
    lanes: int,
    simulations: Sequence[int],
    *,
    model: Literal["model", "environment"] = "model",
    rollout: int = 0,
) -> list[Work]:
    """Searches.

    Args:
        calls: one after the other, for every number of simulations.
        lanes: roots side by side.
        simulations: N; several if the same program has several budgets, whose trees have room for
            the last.
        model: what is planned with.  Nodes of the true model are encoded for the prior.
        rollout: steps of the same model that value a new node, and the root; 0 for the network's
            value.

    """
    each = calls * sum(simulations)
    nodes = each + calls * len(simulations)  # The root too.
    encodings = nodes if model == "environment" else calls * len(simulations)
    works = [
        Work("search", calls * len(simulations), lanes),
        Work("simulation", each, lanes, nodes=simulations[-1] + 1),
        Work("encoding", encodings, lanes),
        Work("prediction", nodes, lanes),
        Work(model, each, lanes),
    ]
    if rollout:
        works.append(Work(model, nodes * rollout, lanes, given=True))
    return works
