"""Figure 6: where the learned model's search goes, with and without the policy prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Array, Key
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.claims import Cells, Claim
from muscope.config import EvaluateConfig, Settings
from muscope.config.base import Checkpoints, Horizon, Simulations
from muscope.config.run import refuse_undiscount
from muscope.envs import State
from muscope.evaluation.planners import PRIORS
from muscope.evaluation.trajectories import Course, search_course
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables, chosen
from muscope.experiments.lab import Bench, Scope, interleave
from muscope.experiments.measure import LAST, Measure
from muscope.experiments.memory import Sizes
from muscope.experiments.view import Choice, Colour, Lines, View
from muscope.room import Part
from muscope.storage.schema import AGENT, STEP, Schema, integer, number, text
from muscope.subjects import Subject
from muscope.work import Work, searching

STREAM = 5
"""Of its random numbers."""
LABELS = {"error": "value error", "tv": "total variation", "kl": "KL divergence"}
"""The measures that are drawn."""
SCHEMA = Schema(
    "figure6",
    "one row per (agent, checkpoint, prior, simulations); means over states",
    (
        AGENT,
        STEP,
        text("prior", "policy or uniform: what guides the search"),
        integer("simulations", "n, 1..N"),
        number(
            "error",
            "Definition 1 of the simulated trajectories (tree path and rollout, H actions), mean "
            "over the first n simulations",
            "return",
        ),
        number("error_tree_path", "the same for the tree paths alone", "return"),
        number(
            "tv",
            "TV[pi, pi_hat] at the root after n simulations; pi is the policy network's prior, "
            "also where a uniform one guides the search",
        ),
        number("kl", "KL[pi, pi_hat]", "nat"),
        integer("horizon", "H", "steps"),
        integer("n_states", "M"),
    ),
)


@dataclass(frozen=True)
class SearchCourse(Settings):
    """Figure 6: where does the learned model's search go, with and without the policy prior?"""

    section = "figure6"

    checkpoints: Checkpoints = ()
    """Training steps to examine; those up to the end of training, or the last if none is."""
    simulations: Simulations = 64
    """N, simulations of a search."""
    horizon: Horizon = 16
    """H, counted from the root: tree depth plus rollout length."""


def courses(
    scope: Scope,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    *,
    simulations: int,
    horizon: int,
) -> Course:
    """One agent's searches from states [M, ...]."""
    search = replace(scope.search, simulations=simulations)
    return search_course(scope.truth, agent, states, key, search, scope.discount, horizon)


def run(bench: Bench, settings: SearchCourse, step: int) -> Tables:
    """The searches of one checkpoint."""
    course = bench.call(
        courses,
        bench.at(step),
        bench.on_policy(step).states,
        bench.keys(step, STREAM),
        simulations=settings.simulations,
        horizon=settings.horizon,
    )
    by_prior = [
        bench.table(
            SCHEMA,
            step,
            settings,
            prior=np.array(prior),
            simulations=np.arange(1, settings.simulations + 1),
            **{name: np.asarray(values)[:, i] for name, values in course._asdict().items()},
            horizon=settings.horizon,
            n_states=bench.evaluate.states,
        )
        for i, prior in enumerate(PRIORS)
    ]
    return {"figure6": interleave(by_prior, len(bench.agents))}


def in_pairs(roots: int, simulations: int, horizon: int) -> list[Work]:
    """Work of :func:`muscope.evaluation.trajectories.plan_in_pairs`: the learned model's searches
    with rollouts, and the true model beside every simulation; its trajectory is rolled out in both.
    """
    return [
        *searching(1, roots, (simulations,), rollout=horizon),
        Work("environment", simulations, roots),
        Work("environment", simulations * horizon, roots, given=True),
        Work("model", simulations * horizon, roots),
    ]


def work(subject: Subject, evaluate: EvaluateConfig, settings: SearchCourse) -> list[Work]:
    """Searches from every state, under either prior."""
    roots = len(PRIORS) * evaluate.states
    own_prior = [Work("encoding", 1, roots), Work("prediction", 1, roots)]
    return [*in_pairs(roots, settings.simulations, settings.horizon), *own_prior]


def memory(sizes: Sizes, evaluate: EvaluateConfig, settings: SearchCourse) -> list[Part]:
    """The searches under both priors at once, and what is kept of every simulation."""
    roots = len(PRIORS) * evaluate.states
    search = sizes.search(settings.simulations, true=True)
    lower = "evaluate.states, figure6.simulations"
    kept = settings.simulations * (sizes.actions + 2) * 8
    return [
        Part("its searches", roots * search, lower),
        Part("their courses", roots * kept, lower),
        Part("rollouts", roots * settings.horizon * 40, "figure6.horizon, evaluate.states"),
    ]


def check(subject: Subject, settings: SearchCourse) -> None:
    """Refuse a tree too deep for the discount."""
    depth = min(settings.horizon, settings.simulations)
    refuse_undiscount("figure6.horizon", depth, subject.discount)


def plot(given: Tables) -> Figure:
    """Error, TV and KL against simulations, policy prior against uniform prior."""
    table = given["figure6"]
    steps = statistics.values(table, "step")
    with style.context():
        figure, panels = style.grid(len(LABELS) * len(steps))
        places = [(step, measure) for step in steps for measure in LABELS]
        for axes, (step, measure) in zip(panels, places, strict=True):
            draw_measure(axes, statistics.rows(table, step=step), measure)
            axes.set_title(f"{style.thousands(step)} steps", fontsize=9)
        style.legend_below(figure, panels[0], columns=2)
        return figure


def draw_measure(axes: Axes, table: pa.Table, measure: str) -> None:
    """One panel: a measure against simulations, from one checkpoint's rows."""
    for prior in PRIORS:
        simulations, points = statistics.curve(table, measure, "simulations", prior=prior)
        style.band(
            axes,
            simulations,
            [s.mean for s in points],
            [s.standard_error for s in points],
            style.PRIOR_COLOURS[prior],
            f"{prior} prior",
            marker=None,
        )
        if measure == "error":
            _, points = statistics.curve(table, "error_tree_path", "simulations", prior=prior)
            style.thin(
                axes,
                simulations,
                [s.mean for s in points],
                (3.0, 1.5),
                f"{prior} prior, tree path alone",
                style.PRIOR_COLOURS[prior],
            )
    axes.set_xlabel("simulations")
    axes.set_ylabel(LABELS[measure])
    axes.set_ylim(bottom=0.0)


def view(given: Tables) -> View:
    """By simulations, one checkpoint and one measure at a time."""
    colours: dict[str, Colour] = {"policy": "blue", "uniform": "orange"}
    measures = {**LABELS, "error_tree_path": "value error, tree path alone"}
    lines = Lines("simulations", "simulations", measures, colour="prior", colours=colours)
    choices = (Choice("step", "training step", "slider"), Choice("prior", "priors"))
    return View((lines,), choices)


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["figure6"]
    return (
        "Search in the learned model from on-policy states, guided by the policy prior or by a "
        "uniform one, leaves valued by random rollouts. Left: value error (Definition 1) of the "
        f"simulated trajectories, {statistics.first(table, 'horizon')} actions of tree path and "
        "rollout, mean over the first n simulations; thin: of the tree paths alone. Middle and "
        "right: total variation and KL divergence between the policy prior and the smoothed visit "
        f"distribution at the root. {statistics.first(table, 'n_states')} states; means over "
        f"{style.agents(table)}, bands one standard error over agents."
    )


def _prior_lowers(measure: str) -> Callable[[Cells], np.ndarray]:
    def per_agent(cells: Cells) -> np.ndarray:
        last = {"simulations": cells.values("simulations")[-1]}
        mean = cells.mean(measure, last, step=cells.values("step"), prior=["policy", "uniform"])
        return (mean[..., 1] - mean[..., 0]).mean(axis=1)

    return per_agent


CLAIMS = (
    Claim(
        "12a",
        "The policy prior lowers the value error of the simulated trajectories.",
        "error under the uniform prior less that under the policy prior, all simulations",
        "figure6",
        _prior_lowers("error"),
    ),
    Claim(
        "12b",
        "The policy prior lowers the search's total variation from the prior.",
        "TV under the uniform prior less that under the policy prior",
        "figure6",
        _prior_lowers("tv"),
    ),
    Claim(
        "12c",
        "The policy prior lowers the search's KL divergence from the prior.",
        "KL under the uniform prior less that under the policy prior",
        "figure6",
        _prior_lowers("kl"),
    ),
)

COMPARED_BY = tuple(
    Measure(f"{what}, {prior} prior", column, {"prior": prior, "simulations": LAST}, ratio=ratio)
    for column, what, ratio in (
        ("error", "simulated error", True),
        ("tv", "TV of search and prior", False),
    )
    for prior in ("policy", "uniform")
)

EXPERIMENT = Experiment(
    name="figure6",
    title="Figure 6: where the search goes",
    tables=(SCHEMA,),
    run=run,
    plot=plot,
    caption=caption,
    view=view,
    settings=SearchCourse,
    claims=CLAIMS,
    measures=COMPARED_BY,
    steps=chosen,
    work=work,
    memory=memory,
    check=check,
    number=STREAM,
)
