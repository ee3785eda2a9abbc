"""One decision looked at closely: the page of ``muscope look``.

The state as a picture; the tree of the agent's own search, and beside every node what the true
model says of the same actions; what is imagined along the principal line; what Figure 7's planners
would do, and what that is worth.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jinja2
import numpy as np
import pyarrow as pa
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from pyarrow import csv

from muscope.envs import Environment
from muscope.errors import ConfigError
from muscope.evaluation.decisions import PLANNERS, value_of
from muscope.evaluation.one_state import Closeness, Seen, see, standard_error
from muscope.experiments import style
from muscope.experiments.lab import Scope
from muscope.reporting import tree_drawing
from muscope.reporting.film import episode
from muscope.reporting.scenes import scene_of
from muscope.storage.checkpoint import write_atomically
from muscope.trained import TrainedAgent
from muscope.version import __version__

LINE = 16
"""Nodes of the principal line whose true returns are told at most."""
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("muscope.reporting"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)


class Found(NamedTuple):
    """A state, and where it was found."""

    state: Any
    words: str
    """Where, for people."""
    taken: int | None
    """The action that the episode took there, if it is of an episode."""
    seed: tuple[int, int]
    """Of the random numbers with which it is looked at."""


class Looked(NamedTuple):
    """One state of an agent, looked at."""

    agent: TrainedAgent
    found: Found
    seen: Seen
    closeness: Closeness


def of_episode(agent: TrainedAgent, seed: int, move: int) -> Found:
    """A state of the episode that a film with this seed shows.

    Raises:
        ConfigError: the episode is over before that move.

    """
    shown = episode(agent, seed)
    if move >= len(shown.action):
        raise ConfigError(
            f"episode {seed} of agent {agent.index} has {len(shown.action)} moves; --move "
            f"must lie in 0..{len(shown.action) - 1}."
        )
    state = jax.tree.map(lambda x: jnp.asarray(x[move]), shown.states)
    return Found(state, f"episode {seed}, move {move}", int(shown.action[move]), (seed, move))


def looker(scope: Scope, closeness: Closeness) -> Callable[[TrainedAgent, Found], Looked]:
    """What looks at states, compiled once for all of the same kind of agent.

    Args:
        scope: of a lab of the agents' subject.
        closeness: how closely.

    Returns:
        A function of the agent whose decision it is, and of the state.

    """
    line = min(LINE, scope.search.simulations + 1)

    @eqx.filter_jit
    def program(network: Any, state: Any, key: Any, temperature: Any) -> Seen:
        return see(
            scope.environment,
            scope.truth,
            network,
            state,
            key,
            scope.search,
            scope.discount,
            temperature,
            closeness,
            line,
        )

    def look(agent: TrainedAgent, found: Found) -> Looked:
        key = jax.random.fold_in(jax.random.key(found.seed[0]), found.seed[1])
        seen = jax.device_get(program(agent.network, found.state, key, agent.temperature))
        return Looked(agent, found, seen, closeness)

    return look


def nodes_of(seen: Seen) -> pa.Table:
    """A row per node of the tree: what the search knows of it, and what is true.

    ``visits``, ``prior`` and ``q`` are those of the edge that leads to a node, seen from its
    parent; of the root: all simulations, 1, and the search's value.
    """
    tree, truth = seen.tree, seen.truth
    there = np.flatnonzero(np.asarray(tree.depth) >= 0)
    parent, action = np.asarray(tree.parent)[there], np.asarray(tree.action)[there]

    def of_edge(x: ArrayLike, at_root: float) -> np.ndarray:
        return np.where(parent < 0, at_root, np.asarray(x)[np.maximum(parent, 0), action])

    returns = np.asarray(seen.returns)[there]
    true, predicted = (np.asarray(x)[there] for x in (truth.true_return, truth.predicted_return))
    return pa.table(
        {
            "node": there,
            "parent": parent,
            "action": action,
            "depth": np.asarray(tree.depth)[there],
            "visits": of_edge(tree.visits, float(np.sum(np.asarray(tree.visits)[0]))).astype(int),
            "prior": of_edge(tree.prior, 1.0),
            "q": of_edge(tree.q, float(seen.search_value)),
            "value": np.asarray(tree.value)[there],
            "predicted_reward": np.asarray(tree.reward)[there],
            "true_reward": np.asarray(truth.reward)[there],
            "predicted_return": predicted,
            "true_return": true,
            "error": np.abs(true - predicted),
            "ended": np.asarray(truth.ended)[there],
            "on_line": np.asarray(seen.on_line)[there],
            "true_value": returns.mean(axis=-1),
            "true_value_error": standard_error(returns),
        }
    )


def choices_of(looked: Looked) -> list[dict[str, Any]]:
    """A row per action of the state: the prior, the search, the planners, and its true worth."""
    seen = looked.seen
    q, error = np.asarray(seen.q).mean(axis=0), standard_error(np.asarray(seen.q).T)
    visits, mean_returns = np.asarray(seen.tree.visits)[0], np.asarray(seen.tree.q)[0]
    planned = np.asarray(seen.planned)
    return [
        {
            "action": action,
            "prior": float(seen.prior[action]),
            "visits": int(visits[action]),
            "q": float(mean_returns[action]) if visits[action] else None,
            "planned": [int(each[action]) for each in planned],
            "true": float(q[action]),
            "true_error": float(error[action]),
            "taken": action == looked.found.taken,
        }
        for action in range(len(q))
    ]


def planners_of(looked: Looked) -> list[dict[str, Any]]:
    """What each planner would choose, and how much more that is worth than what the prior does."""
    seen = looked.seen
    q = np.asarray(seen.q).mean(axis=0)
    usual = float(np.sum(np.asarray(seen.prior) * q))
    rows = []
    own = [("MuZero's own search", np.asarray(seen.tree.visits)[0])]
    planned = zip(PLANNERS, np.asarray(seen.planned), strict=True)
    for name, visits in own + [
        (f"{model} model, {prior} prior", visits) for (model, prior), visits in planned
    ]:
        best = np.flatnonzero(visits == visits.max())
        worth = float(value_of(jnp.asarray(q)[None], jnp.asarray(visits)[None])[0])
        rows.append({"name": name, "actions": best.tolist(), "improvement": worth - usual})
    return rows


def write(looked: Looked, path: Path) -> None:
    """Write the page of a state.

    Args:
        looked: at it.
        path: the file, which is replaced.

    """
    agent, seen = looked.agent, looked.seen
    table = nodes_of(seen)
    rows = table.to_pylist()
    names = action_names(agent.environment)
    page = _TEMPLATES.get_template("one_state.html").render(
        subject=agent.subject.name,
        environment=agent.environment.spec.name,
        agent=agent.index,
        step=agent.step,
        where=looked.found.words,
        closeness=looked.closeness,
        discount=agent.subject.discount,
        picture=_picture(looked),
        observation=_observation(looked),
        names=names,
        taken=looked.found.taken,
        search_value=float(seen.search_value),
        choices=choices_of(looked),
        planners=[f"{model} model, {prior} prior" for model, prior in PLANNERS],
        decisions=planners_of(looked),
        line=[row for row in rows if row["on_line"]],
        rows=rows,
        drawing=tree_drawing.drawn(rows, names),
        csv=_csv(table),
        version=__version__,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())


def action_names(environment: Environment) -> list[str]:
    """What actions are called, if the environment has ``action_names``; their numbers if not.

    Raises:
        ConfigError: it has not as many names as actions.

    """
    count = environment.spec.num_actions
    names = [*map(str, getattr(environment, "action_names", range(count)))]
    if len(names) != count:
        raise ConfigError(
            f"environment '{environment.spec.name}' has {count} actions and {len(names)} "
            "action_names; give each action one, or leave them out."
        )
    return names


def _picture(looked: Looked) -> str:
    """The state as a PNG's URI; empty if nobody has written how it looks."""
    draw = scene_of(looked.agent.environment)
    if draw is None:
        return ""
    with style.context():
        figure = Figure(figsize=(3.2, 2.6), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        draw(axes, looked.found.state, _shown_action(looked))
        axes.set_xticks([])
        axes.set_yticks([])
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _shown_action(looked: Looked) -> int:
    """The action that was taken, or the one that the own search would take."""
    if looked.found.taken is not None:
        return looked.found.taken
    return int(np.argmax(np.asarray(looked.seen.tree.visits)[0]))


def _observation(looked: Looked) -> list[float]:
    """What the agent sees, if it is a few numbers."""
    seen = np.asarray(looked.agent.environment.observe(looked.found.state))
    return seen.tolist() if seen.ndim == 1 and seen.size <= 16 else []


def _csv(table: pa.Table) -> str:
    """As a link's target."""
    buffer = io.BytesIO()
    csv.write_csv(table, buffer)
    return "data:text/csv;base64," + base64.b64encode(buffer.getvalue()).decode()
