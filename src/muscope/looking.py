"""A run's agent looked at closely, one state of it at a time."""

from __future__ import annotations

from pathlib import Path

from muscope import runtime
from muscope.config.base import from_dict
from muscope.evaluation.one_state import Closeness
from muscope.experiments.decisions import Deciding
from muscope.experiments.lab import Lab
from muscope.host_call import host_errors
from muscope.memory import said_if_short
from muscope.reporting import one_state
from muscope.stages import open_run
from muscope.storage.run import Run


@said_if_short("looking", "lower --returns")
@host_errors()
def look(
    run: Run | str | Path,
    agent: int = 0,
    step: int | None = None,
    episode: int = 0,
    move: int = 0,
    returns: int = 16,
    out: str | Path | None = None,
) -> Path:
    """Look at one state of an agent closely: its search's tree beside the truth; returns the page.

    The planners have the settings of the run's ``decisions``.

    Args:
        run: where the agent is.
        agent: its index.
        step: its training step, the last checkpoint by default.
        episode: a film's ``seed``: the episode that :func:`muscope.film` shows.
        move: of the episode, from 0.
        returns: episodes that tell a true return.
        out: the page; by default in the run's folder ``look``.

    Raises:
        ConfigError: the episode is over before that move.
        RunError: no such agent, or no checkpoint at that step.

    """
    runtime.start()
    opened = open_run(run.path if isinstance(run, Run) else run)
    whom = opened.agent(agent, step)
    given = from_dict(dict(opened.config.experiments.get("decisions", {})), Deciding)
    closeness = Closeness(given.simulations, given.horizon, returns, given.q_horizon)
    scope = Lab(opened.subject, opened.config.evaluate).scope
    place = one_state.Place(episode, move)
    name = f"agent{agent}-step{whom.step}-episode{episode}-move{move}.html"
    path = opened.path / "look" / name if out is None else Path(out)
    one_state.write(one_state.look(whom, scope, place, closeness), path)
    return path
