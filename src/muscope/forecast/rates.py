"""Seconds per piece of work on one device, and seconds of compiling it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from muscope.work import Kind, Work


class Rate(NamedTuple):
    """Of one kind of work: a call takes ``call + lanes * lane`` seconds."""

    call: float = 0.0
    lane: float = 0.0
    """Of a simulation: per lane and node that the tree has room for."""


class Compiling(NamedTuple):
    """Seconds that a place of a program takes at its first use."""

    tracing: float
    """By JAX, with the lowering; every process does it again."""
    compiling: float
    """By XLA; the cache keeps it."""


def added(uses: Sequence[Compiling]) -> Compiling:
    """Of some programs together."""
    return Compiling(sum((u.tracing for u in uses), 0.0), sum((u.compiling for u in uses), 0.0))


@dataclass(frozen=True)
class Rates:
    """What a machine does in how many seconds."""

    told: str
    """Where they come from, in words."""
    of: Mapping[Kind, Rate]
    first_use: Mapping[Kind, Compiling]
    """By kind, of one place."""
    devices: int
    """That share the agents."""
    on_host: bool = False
    """Environments are simulated on the host: their seconds are the whole machine's, whichever
    device asks."""
    given: float = 1.0
    """The share of a step's time on the host that one of given actions takes, those after an end
    counted as if they were taken."""
    in_turn: bool = False
    """A device runs its agents one after the other."""
    longest_random: int = 0
    """Moves of the longest of some episodes of random play, about as many as are played at once;
    0 if none was played."""

    def seconds(self, works: Sequence[Work], agents: int, moves: int = 0) -> float:
        """Of work that so many agents do together.

        Args:
            works: of one agent.
            agents: shared by the devices.
            moves: that the longest episode is expected to have; 0 for the time limit.

        """
        return sum((self._seconds(work, agents, moves) for work in works), 0.0)

    def _seconds(self, work: Work, agents: int, moves: int) -> float:
        rate = self.of.get(work.kind, Rate())
        share = min(moves, work.played) / work.played if moves and work.played else 1.0
        lane = rate.lane * (work.nodes or 1)
        if self.on_host and work.kind in ("environment", "reset"):
            return share * work.amount * agents * lane * (self.given if work.given else 1.0)
        each = -(-agents // self.devices)
        turns, together = (each, 1) if self.in_turn else (1, each)
        return share * work.calls * turns * (rate.call + work.lanes * together * lane)

    def compiling(self, works: Sequence[Work]) -> Compiling:
        """First uses of the programs that all this work is in, each place once."""
        places = {(work.program, work.kind, work.calls, work.lanes) for work in works}
        found = [self.first_use.get(kind, Compiling(0.0, 0.0)) for _, kind, _, _ in places]
        return added(found)
