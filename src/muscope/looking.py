"""A run's agents looked at closely, one state at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from muscope import runtime, statistics
from muscope.config import EvaluateConfig
from muscope.config.base import from_dict
from muscope.errors import RunError
from muscope.evaluation.one_state import Closeness
from muscope.experiments import plans as asking
from muscope.experiments import registry
from muscope.experiments.decisions import Deciding
from muscope.experiments.lab import Lab, groups
from muscope.host_call import host_errors
from muscope.memory import said_if_short
from muscope.reporting import one_state
from muscope.stages import StudyRun, open_run, refuse_stale
from muscope.storage import tables
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
        out: the page; by default in the run's folder ``look``, whose pages its report shows.

    Raises:
        ConfigError: the episode is over before that move.
        RunError: no such agent, or no checkpoint at that step.

    """
    runtime.start()
    opened = open_run(run.path if isinstance(run, Run) else run)
    whom = opened.agent(agent, step)
    found = one_state.of_episode(whom, episode, move)
    name = f"agent{agent}-step{whom.step}-episode{episode}-move{move}.html"
    path = opened.look_path / name if out is None else Path(out)
    scope = Lab(opened.subject, opened.config.evaluate).scope
    closeness = _closeness(opened.config.experiments.get("decisions", {}), returns)
    one_state.write(one_state.looker(scope, closeness)(whom, found), path)
    return path


@said_if_short("looking", "lower --returns")
@host_errors()
def look_at_chosen(run: Run | str | Path, returns: int = 16) -> list[Path]:
    """Look at three of the states that ``decisions`` has at its last checkpoint: one of typical
    model error, the one where the model is most wrong, and the one where the learned model's
    planner, guided by the prior, gives most away.

    Args:
        run: with a table ``decisions``.
        returns: episodes that tell a true return.

    Returns:
        The pages, in the run's folder ``look``.

    Raises:
        RunError: there is no such table, it was made of other agents or on another number of
            devices, or all agents have diverged.

    """
    runtime.start()
    opened = open_run(run.path if isinstance(run, Run) else run)
    asked = asking.asked(opened, registry.get("decisions"))
    if asked is None:
        raise RunError(
            f"{opened.path} has no table decisions to choose from; 'muscope evaluate "
            f"{opened.path} --figures decisions' makes it."
        )
    refuse_stale(opened)
    devices = tables.told(opened.table_path("decisions")).get("devices", "")
    if devices not in ("", runtime.devices()):
        raise RunError(
            f"{opened.table_path('decisions')} was made on {devices}, and here are "
            f"{runtime.devices()}, where its states may be others; set JAX_NUM_CPU_DEVICES to that "
            "number, or delete the table and run 'muscope evaluate' again."
        )
    lab = Lab(opened.subject, from_dict(asked.evaluate, EvaluateConfig, "evaluate"))
    look_at = one_state.looker(lab.scope, _closeness(asked.settings, returns))
    paths = []
    for choice in _choices(opened):
        whom = opened.agent(choice.agent, choice.step)
        states = _on_policy(lab, choice)
        words = f"state {choice.state} of decisions: {choice.why}, {choice.size:.3g}"
        found = one_state.Found(states, words, None, (choice.agent, choice.state))
        path = _page_of(opened, choice.why)
        one_state.write(look_at(whom, found), path)
        paths.append(path)
    return paths


TYPICAL, WORST, COSTLIEST = "typical model error", "worst model error", "costliest decision"
"""Of which :func:`look_at_chosen` makes pages."""


def chosen_are_there(run: StudyRun) -> bool:
    """Whether the pages of :func:`look_at_chosen` are there, and of the table as it is."""
    made = run.table_path("decisions").stat().st_mtime_ns
    pages = [_page_of(run, why) for why in (TYPICAL, WORST, COSTLIEST)]
    return all(page.exists() and page.stat().st_mtime_ns >= made for page in pages)


def _page_of(run: StudyRun, why: str) -> Path:
    return run.look_path / f"{why.replace(' ', '-')}.html"


class _Choice(NamedTuple):
    """A row of decisions."""

    why: str
    size: float
    """Of the model error, or what the decision costs."""
    agent: int
    step: int
    state: int


def _choices(run: StudyRun) -> Iterator[_Choice]:
    """Of the learned model's planner under the policy prior; agents that diverged are left out."""
    table = tables.read(run.table_path("decisions"))
    step = max(statistics.values(table, "step"))
    rows = statistics.rows(table, step=step, model="learned", prior="policy")
    error, improvement, best = (
        np.asarray(rows[name].to_numpy(zero_copy_only=False), float)
        for name in ("model_error", "improvement", "best")
    )
    if np.all(np.isnan(error)):
        raise RunError(f"{run.path}: all agents had diverged at step {step}; nothing to look at.")
    distance = np.abs(error - np.nanmedian(error))
    for why, score, size in (
        (TYPICAL, -distance, error),
        (WORST, error, error),
        (COSTLIEST, best - improvement, best - improvement),
    ):
        row = int(np.nanargmax(score))
        agent, state = (rows[name][row].as_py() for name in ("agent", "state"))
        yield _Choice(why, float(size[row]), agent, step, state)


def _on_policy(lab: Lab, choice: _Choice) -> object:
    """The state, found as the experiment found it: by the same program for the same agents."""
    evaluate, subject = lab.evaluate, lab.subject
    group, size = next(
        (group.agents, group.size)
        for group in groups(subject.blocks, evaluate.agents_at_once)
        if choice.agent in group.agents
    )
    filled = [*group, *[group[-1]] * (size - len(group))]
    states = lab.bench(filled).on_policy(choice.step).states
    at = group.index(choice.agent)
    return jax.tree.map(lambda x: x[at, choice.state], states)


def _closeness(decisions: Mapping[str, Any], returns: int) -> Closeness:
    """As decisions are asked for."""
    given = from_dict(dict(decisions), Deciding)
    return Closeness(given.simulations, given.horizon, returns, given.q_horizon)
