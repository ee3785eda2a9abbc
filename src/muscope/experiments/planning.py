"""Figure 7: how far planning improves on the policy, with the learned and with the true model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Int, Key
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.config import EvaluateConfig, Settings
from muscope.config.base import Budgets, Checkpoints, Count, Horizon, Whole
from muscope.config.run import refuse_undiscount
from muscope.errors import ConfigError
from muscope.evaluation.planned_play import BASELINES, planned_episodes, prior_episodes
from muscope.evaluation.planners import MODELS, PRIORS, LeafKind, Model, Planner
from muscope.evaluation.play import Scores
from muscope.experiments import planning_claims, style
from muscope.experiments.base import Experiment, Tables, chosen
from muscope.experiments.lab import Bench, Scope, interleave
from muscope.experiments.measure import LAST, Measure
from muscope.experiments.memory import Sizes
from muscope.experiments.view import Beside, Choice, Colour, Lines, View
from muscope.room import Part
from muscope.storage.schema import AGENT, STEP, Schema, integer, number, text
from muscope.subjects import Subject
from muscope.work import Work, acting, searching, within

STREAM = 6
"""Of its random numbers; all checkpoints have step 0's, so that their episodes start alike."""
SCHEMA = Schema(
    "figure7",
    "one row per episode",
    (
        AGENT,
        STEP,
        text("model", "learned or true; none for the baselines, which do not plan"),
        text("prior", "policy or uniform; of the baselines sampled (a ~ pi_theta) or greedy"),
        text("leaf", "rollout or value; none for the baselines"),
        integer(
            "simulations", "N per move, from which the most visited action is taken; 0: baselines"
        ),
        integer("episode", "number; episodes of one agent and number start in the same state"),
        number("return", "undiscounted return", "return"),
        integer("length", "until termination or the time limit", "steps", measured=True),
        integer("horizon", "H: tree depth plus rollout length", "steps"),
        integer(
            "most_steps", "moves after which an episode was cut; the time limit or fewer", "steps"
        ),
    ),
)


@dataclass(frozen=True)
class Planning(Settings):
    """Figure 7: how far does planning improve the policy, with the learned and the true model?"""

    section = "figure7"

    checkpoints: Checkpoints = ()
    """Training steps to examine, a panel each; those up to the end of training, or the last if
    none is."""
    simulations: Budgets = (1, 4, 16, 64)
    """Simulations per move, ascending."""
    horizon: Horizon = 16
    """H, counted from the root: tree depth plus rollout length."""
    leaves: tuple[LeafKind, ...] = ("rollout", "value")
    """How leaves are valued: rollout (the paper), value (the value network), or both."""
    steps: Whole = 0
    """Most moves of an episode, whose return is then of these; 0 for the time limit."""
    episodes: Count = 10
    """Episodes per agent, checkpoint and planner."""

    def check(self) -> None:
        if not self.simulations or list(self.simulations) != sorted(set(self.simulations)):
            raise ConfigError("figure7.simulations must be ascending numbers.")
        if not self.leaves or len(set(self.leaves)) < len(self.leaves):
            raise ConfigError("figure7.leaves must be rollout, value, or both, each once.")


def play_planner(
    scope: Scope,
    agent: Agent,
    key: Key[Array, ""],
    budget: Int[Array, ""],
    *,
    model: Model,
    leaf: LeafKind,
    horizon: int,
    simulations: int,
    episodes: int,
    steps: int,
) -> Scores:
    """One agent's episodes with a planner; see :func:`planned_episodes`."""
    return planned_episodes(
        Planner(model, leaf, horizon),
        scope.environment,
        scope.truth,
        agent,
        key,
        replace(scope.search, simulations=simulations),
        scope.discount,
        budget,
        episodes,
        steps,
    )


def play_prior(
    scope: Scope, agent: Agent, key: Key[Array, ""], *, episodes: int, steps: int
) -> Scores:
    """One agent's episodes without planning; see :func:`prior_episodes`."""
    return prior_episodes(scope.environment, agent, key, episodes, steps)


def run(bench: Bench, settings: Planning, step: int) -> Tables:
    """All planners and baselines at one checkpoint."""
    agents, keys = bench.at(step), bench.keys(0, STREAM)
    scores = bench.call(play_prior, agents, keys, episodes=settings.episodes, steps=settings.steps)
    parts = _part_per_half(bench, settings, step, scores, "none", BASELINES)
    for model in MODELS:
        for leaf in settings.leaves:
            for budget in settings.simulations:
                scores = bench.call(
                    play_planner,
                    agents,
                    keys,
                    shared=(jnp.int32(budget),),
                    model=model,
                    leaf=leaf,
                    horizon=settings.horizon,
                    simulations=settings.simulations[-1],
                    episodes=settings.episodes,
                    steps=settings.steps,
                )
                parts += _part_per_half(bench, settings, step, scores, model, PRIORS, leaf, budget)
    return {"figure7": interleave(parts, len(bench.agents))}


def _part_per_half(
    bench: Bench,
    settings: Planning,
    step: int,
    scores: Scores,
    model: str,
    priors: tuple[str, ...],
    leaf: str = "none",
    budget: int = 0,
) -> list[pa.Table]:
    """Rows of scores [B, 2 E], a table for each of the two priors, whose halves these are."""
    limit = bench.scope.environment.spec.time_limit
    halves = zip(
        np.split(np.asarray(scores.score), len(priors), axis=1),
        np.split(np.asarray(scores.length), len(priors), axis=1),
        strict=True,
    )
    return [
        bench.table(
            SCHEMA,
            step,
            settings,
            model=np.array(model),
            prior=np.array(prior),
            leaf=np.array(leaf),
            simulations=budget,
            episode=np.arange(settings.episodes),
            **{"return": score},
            length=length,
            horizon=settings.horizon,
            most_steps=min(settings.steps or limit, limit),
        )
        for prior, (score, length) in zip(priors, halves, strict=True)
    ]


def work(subject: Subject, evaluate: EvaluateConfig, settings: Planning) -> list[Work]:
    """A search and a step of the game per move, for every planner; a step for the baselines."""
    limit = subject.environment.spec.time_limit
    moves, lanes = min(settings.steps or limit, limit), len(PRIORS) * settings.episodes
    works = within(acting(moves, lanes), "prior alone")
    for model in MODELS:
        for leaf in settings.leaves:
            planned = searching(
                moves,
                lanes,
                settings.simulations,
                model="environment" if model == "true" else "model",
                rollout=settings.horizon if leaf == "rollout" else 0,
            )
            steps = Work("environment", moves * len(settings.simulations), lanes)
            works += within([*planned, steps], f"{model} model, {leaf} leaves")
    return within(works, played=moves)


def memory(sizes: Sizes, evaluate: EvaluateConfig, settings: Planning) -> list[Part]:
    """The episodes of both priors at once, with one model and one leaf after the other."""
    episodes = len(PRIORS) * settings.episodes
    most = settings.simulations[-1]
    searches = (sizes.search(most, true=true, learned=not true) for true in (False, True))
    return [
        Part("its searches", episodes * max(searches), "figure7.episodes, figure7.simulations"),
        Part("rollouts", episodes * settings.horizon * 40, "figure7.horizon, figure7.episodes"),
    ]


def check(subject: Subject, settings: Planning) -> None:
    """Refuse a tree too deep for the discount."""
    depth = min(settings.horizon, settings.simulations[-1])
    refuse_undiscount("figure7.horizon", depth, subject.discount)


def plot(given: Tables) -> Figure:
    """Return against simulations, a column per checkpoint and a row per leaf; the leaves side by
    side if there is one checkpoint.
    """
    table = given["figure7"]
    steps = statistics.values(table, "step")
    leaves = [leaf for leaf in statistics.values(table, "leaf") if leaf != "none"]
    with style.context():
        columns = len(steps) if len(steps) > 1 else len(leaves)
        figure, panels = style.grid(len(steps) * len(leaves), columns)
        places = [(leaf, step) for leaf in leaves for step in steps]
        for axes, (leaf, step) in zip(panels, places, strict=True):
            draw_returns(axes, statistics.rows(table, step=step), leaf)
            axes.set_title(f"{style.thousands(step)} steps\n{leaf} leaves", fontsize=9)
        for axes in panels[::columns]:
            axes.set_ylabel("return")
        style.legend_below(figure, panels[0], columns=min(columns, 2))
        return figure


def draw_returns(axes: Axes, table: pa.Table, leaf: str) -> None:
    """One panel: all planners with one kind of leaf, from one checkpoint's rows."""
    budgets = [budget for budget in statistics.values(table, "simulations") if budget > 0]
    for model in MODELS:
        for prior, linestyle in zip(PRIORS, ("-", ":"), strict=True):
            _, points = statistics.curve(
                table, "return", "simulations", model=model, prior=prior, leaf=leaf
            )
            style.band(
                axes,
                budgets,
                [s.mean for s in points],
                [s.standard_error for s in points],
                style.MODEL_COLOURS[model],
                f"{model} model, {prior} prior",
                linestyle=linestyle,
            )
    for baseline, dashes in zip(BASELINES, ((4.0, 2.0), (1.0, 1.5)), strict=True):
        mean = statistics.summary(table, "return", prior=baseline).mean
        style.thin(axes, budgets, [mean] * len(budgets), dashes, f"prior alone, {baseline}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets, [str(b) for b in budgets])
    axes.minorticks_off()
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("simulations")


def view(given: Tables) -> View:
    """By simulations, one checkpoint and one kind of leaf at a time, planners beside each other."""
    colours: dict[str, Colour] = {"learned": "red", "true": "green"}
    ignored = ("model", "prior", "leaf")
    lines = Lines(
        "simulations",
        "simulations",
        {"return": "return", "length": "length of an episode, steps"},
        colour="model",
        dash="prior",
        colours=colours,
        scale="log2",
        where={"model": MODELS, "prior": PRIORS},
        beside=[
            Beside("return", f"prior alone, {name}", {"prior": [name]}, True, ignored)
            for name in BASELINES
        ],
    )
    leaves = [leaf for leaf in statistics.values(given["figure7"], "leaf") if leaf != "none"]
    choices = (
        Choice("step", "training step", "slider"),
        Choice("leaf", "leaves", "one", leaves[:1]),
        Choice("model", "models", first=MODELS),
        Choice("prior", "priors", first=PRIORS),
    )
    return View((lines,), choices)


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["figure7"]
    return (
        "Return of acting greedily by the visits of a search in the learned model (orange) and in "
        "the true one (green), guided by the policy prior (solid) or by a uniform one (dotted), "
        f"against simulations per move; planning horizon {statistics.first(table, 'horizon')}. "
        "Rollout leaves are valued by random actions in the same model, value leaves by the value "
        "network. Thin lines: the policy prior without planning. Means over "
        f"{style.agents(table)}, "
        f"{len(statistics.values(table, 'episode'))} episodes each from the same starts, of at "
        f"most {statistics.first(table, 'most_steps'):,} moves; bands are one standard error over "
        "agents."
    )


COMPARED_BY = tuple(
    Measure(
        f"{model} model, {prior} prior, {leaf} leaves",
        "return",
        {"step": LAST, "model": model, "prior": prior, "leaf": leaf},
        x="simulations",
    )
    for model, prior, leaf in (
        ("learned", "policy", "rollout"),
        ("learned", "policy", "value"),
        ("learned", "uniform", "rollout"),
        ("learned", "uniform", "value"),
        ("true", "policy", "value"),
        ("true", "uniform", "value"),
    )
)

EXPERIMENT = Experiment(
    name="figure7",
    title="Figure 7: planning with the learned and with the true model",
    tables=(SCHEMA,),
    run=run,
    plot=plot,
    caption=caption,
    view=view,
    settings=Planning,
    claims=planning_claims.CLAIMS,
    measures=COMPARED_BY,
    steps=chosen,
    work=work,
    memory=memory,
    check=check,
    states=False,
    number=STREAM,
)
