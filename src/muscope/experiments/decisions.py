"""Beyond the paper: what each planner's decision is worth, and whether model error explains it.

The numbers are those of :mod:`muscope.evaluation.decisions`, at on-policy states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.config import EvaluateConfig, Settings
from muscope.config.base import Checkpoints, Count, Horizon, Simulations
from muscope.config.run import refuse_undiscount
from muscope.envs import State
from muscope.evaluation.decisions import AT_ONCE, PLANNERS, Decisions, decide
from muscope.evaluation.planners import MODELS, PRIORS
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables, chosen
from muscope.experiments.lab import Bench, Scope, interleave
from muscope.experiments.measure import Measure
from muscope.experiments.memory import Sizes
from muscope.experiments.search_course import in_pairs
from muscope.experiments.view import Beside, Choice, Colour, Lines, View
from muscope.room import Part
from muscope.storage.schema import AGENT, STEP, Schema, integer, number, text
from muscope.subjects import Subject
from muscope.work import Work, acting, searching

STREAM = 7
"""Of its random numbers."""
BINS = 5
SCHEMA = Schema(
    "decisions",
    "one row per (agent, checkpoint, state, model, prior)",
    (
        AGENT,
        STEP,
        integer("state", "number of the state, 0..M-1"),
        text("model", "learned or true: what the search plans with"),
        text("prior", "policy or uniform: what guides it"),
        number("improvement", "Q(s, a_planner) - sum_a pi(a | s) Q(s, a)", "return"),
        number(
            "best",
            "max_a Q(s, a) - sum_a pi(a | s) Q(s, a): the most any planner could get; a chosen on "
            "one half of the episodes, valued on the other",
            "return",
        ),
        number(
            "model_error",
            "the learned model's value error (Definition 1) at this state, mean over the "
            "trajectories that its search simulates under the same prior",
            "return",
        ),
        integer("simulations", "N of the search"),
        integer("horizon", "H of the search; leaves are valued by rollouts", "steps"),
        integer("q_horizon", "how long the prior is followed after the action", "steps"),
        integer("n_sequences", "R, episodes of the prior per action, with common random numbers"),
    ),
)


@dataclass(frozen=True)
class Deciding(Settings):
    """What is each planner's decision worth, and does model error explain it?"""

    section = "decisions"

    checkpoints: Checkpoints = ()
    """Training steps to examine; those up to the end of training, or the last if none is."""
    simulations: Simulations = 64
    """N, simulations of a search."""
    horizon: Horizon = 16
    """H, counted from the root: tree depth plus rollout length."""
    q_horizon: Horizon = 100
    """Steps after a decision for which the true return under the policy prior is counted."""
    sequences: Count = 32
    """R, episodes of the policy prior per state and action."""


def decide_at(
    scope: Scope,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    *,
    simulations: int,
    horizon: int,
    sequences: int,
    q_horizon: int,
) -> Decisions:
    """All planners of one agent at states [M, ...]; see :func:`decide`."""
    return decide(
        scope.environment,
        scope.truth,
        agent,
        states,
        key,
        replace(scope.search, simulations=simulations),
        scope.discount,
        horizon,
        sequences,
        q_horizon,
    )


def run(bench: Bench, settings: Deciding, step: int) -> Tables:
    """The decisions of all planners at one checkpoint."""
    decisions = bench.call(
        decide_at,
        bench.at(step),
        bench.on_policy(step).states,
        bench.keys(step, STREAM),
        simulations=settings.simulations,
        horizon=settings.horizon,
        sequences=settings.sequences,
        q_horizon=settings.q_horizon,
    )
    by_planner = [
        bench.table(
            SCHEMA,
            step,
            settings,
            state=np.arange(bench.evaluate.states),
            model=np.array(model),
            prior=np.array(prior),
            improvement=np.asarray(decisions.improvement)[:, i],
            best=np.asarray(decisions.best),
            model_error=np.asarray(decisions.model_error)[:, PRIORS.index(prior)],
            simulations=settings.simulations,
            horizon=settings.horizon,
            q_horizon=settings.q_horizon,
            n_sequences=settings.sequences,
        )
        for i, (model, prior) in enumerate(PLANNERS)
    ]
    return {"decisions": interleave(by_planner, len(bench.agents))}


def work(subject: Subject, evaluate: EvaluateConfig, settings: Deciding) -> list[Work]:
    """Every action is followed by the prior's episodes, and every planner searches."""
    choices = evaluate.states * subject.environment.spec.num_actions
    roots, (groups, rest) = len(PRIORS) * evaluate.states, divmod(settings.sequences, AT_ONCE)
    simulations, horizon = settings.simulations, settings.horizon
    works = [Work("environment", 1, choices), *acting(1, evaluate.states)[:2]]
    if groups:
        works += acting(groups * settings.q_horizon, AT_ONCE * choices)
    if rest:
        works += acting(settings.q_horizon, rest * choices)
    works += in_pairs(roots, simulations, horizon)
    return works + searching(1, roots, (simulations,), model="environment", rollout=horizon)


def memory(sizes: Sizes, evaluate: EvaluateConfig, settings: Deciding) -> list[Part]:
    """The searches under both priors at once, and a few episodes from every action."""
    roots = len(PRIORS) * evaluate.states
    search = sizes.search(settings.simulations, true=True)
    lower = "evaluate.states, decisions.simulations"
    kept = settings.simulations * (sizes.actions + 2) * 8
    followed = evaluate.states * sizes.actions
    episodes = min(settings.sequences, AT_ONCE) * followed * (sizes.forward + sizes.place)
    returns = 2 * settings.sequences * followed * 4
    return [
        Part("its searches", roots * search, lower),
        Part("their courses", roots * kept, lower),
        Part("rollouts", roots * settings.horizon * 40, "decisions.horizon, evaluate.states"),
        Part("the episodes that value actions", episodes, "evaluate.states"),
        Part("their returns", returns, "decisions.sequences, evaluate.states"),
    ]


def check(subject: Subject, settings: Deciding) -> None:
    """Refuse a tree too deep for the discount."""
    depth = min(settings.horizon, settings.simulations)
    refuse_undiscount("decisions.horizon", depth, subject.discount)


def by_error(
    table: pa.Table, step: int, model: str, prior: str
) -> tuple[Float[np.ndarray, "bins"], list[statistics.Summary]]:
    """Improvement by fifths of the states, from the least to the greatest model error.

    The fifths are made within each agent.

    Returns:
        The mean model error of each fifth, and the improvement, mean ± standard error over
        agents.

    """
    error, gain = (
        by_state(table, name, step, model, prior) for name in ("model_error", "improvement")
    )
    order = np.argsort(error, axis=1, kind="stable")
    fifth = np.arange(error.shape[1]) * BINS // error.shape[1]
    bins = [order[:, fifth == i] for i in np.unique(fifth)]  # [P, states of the fifth]
    errors, gains = (
        [statistics.over_agents(np.take_along_axis(x, own, axis=1).mean(axis=1)) for own in bins]
        for x in (error, gain)
    )
    return np.array([e.mean for e in errors]), gains


def explained(table: pa.Table, step: int, prior: str) -> Float[np.ndarray, "P"]:
    """Per agent, rank correlation over states of model error and improvement lost to it.

    Lost is the true model's improvement less the learned model's, under the same prior.  NaN
    where one of them is constant.
    """
    error = by_state(table, "model_error", step, "learned", prior)
    learned, true = (by_state(table, "improvement", step, model, prior) for model in MODELS)
    return statistics.spearman(error, true - learned)


def by_state(
    table: pa.Table, column: str, step: int, model: str, prior: str
) -> Float[np.ndarray, "P M"]:
    """A column of one planner at one checkpoint."""
    own = statistics.rows(table, step=step, model=model, prior=prior)
    return statistics.means(own, column, state=statistics.values(own, "state"))


def plot(given: Tables) -> Figure:
    """Improvement per decision through training, and by model error at the first and last step."""
    table = given["decisions"]
    steps = statistics.values(table, "step")
    with style.context():
        figure, panels = style.grid(1 + min(len(steps), 2))
        draw_training(panels[0], table, steps)
        for axes, step in zip(panels[1:], (steps[0], steps[-1]), strict=False):
            for model, prior in PLANNERS:
                errors, points = by_error(table, step, model, prior)
                draw_planner(axes, errors, points, model, prior, "")
            axes.set_title(f"{style.thousands(step)} steps", fontsize=9)
            axes.set_xlabel("learned model's error there")
        for axes in panels:
            axes.axhline(0.0, color="grey", linewidth=0.8)
        style.legend_below(figure, panels[0], columns=3)
        return figure


def draw_training(axes: Axes, table: pa.Table, steps: list[int]) -> None:
    """The first panel: all planners, and the best action, by checkpoint; side by side if there is
    one checkpoint.
    """
    places = np.arange(len(steps))
    apart = 0.2 * (len(steps) == 1)
    for i, (model, prior) in enumerate(PLANNERS):
        _, points = statistics.curve(table, "improvement", "step", model=model, prior=prior)
        shifted = places + apart * (i - (len(PLANNERS) - 1) / 2)
        draw_planner(axes, shifted, points, model, prior, f"{model} model, {prior} prior")
    _, curve = statistics.curve(table, "best", "step")
    best = [s.mean for s in curve]
    if apart:
        style.thin(axes, np.array([-0.5, 0.5]), best * 2, (4.0, 2.0), "best action")
    else:
        style.thin(axes, places, best, (4.0, 2.0), "best action")
    axes.set_xticks(places, [style.thousands(s) for s in steps])
    axes.set_xlabel("training steps")
    axes.set_ylabel("improvement per decision")


def draw_planner(
    axes: Axes,
    x: np.ndarray,
    points: list[statistics.Summary],
    model: str,
    prior: str,
    label: str,
) -> None:
    """One planner's line, or its point."""
    style.band(
        axes,
        x,
        [s.mean for s in points],
        [s.standard_error for s in points],
        style.MODEL_COLOURS[model],
        label,
        linestyle="-" if prior == "policy" else ":",
        filled=prior == "policy",
    )


def view(given: Tables) -> View:
    """Improvement through training, and by model error at one checkpoint."""
    colours: dict[str, Colour] = {"learned": "red", "true": "green"}
    gain = {"improvement": "improvement per decision"}
    training = Lines(
        "step",
        "training steps",
        gain,
        colour="model",
        dash="prior",
        colours=colours,
        scale="names",
        beside=(Beside("best", "best action", ignores=("model", "prior")),),
        title="through training",
    )
    by_model_error = Lines(
        "model_error",
        "learned model's error there",
        gain,
        colour="model",
        dash="prior",
        colours=colours,
        fifths=True,
        title="by fifths of the states, at the step that the slider shows",
    )
    choices = (
        Choice("step", "training step", "slider"),
        Choice("model", "models"),
        Choice("prior", "priors"),
    )
    return View((training, by_model_error), choices)


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["decisions"]
    last = statistics.values(table, "step")[-1]
    correlations = []
    for prior in PRIORS:
        summary = statistics.over_agents(explained(table, last, prior))
        mean = f"{summary.mean:+.2f}" if summary.n else "undefined"
        correlations.append(f"{mean} with the {prior} prior ({style.agents(summary.n)})")
    return (
        "Left: how much better the planner's action is than the policy prior's in the true "
        "environment, when the prior acts for the following "
        f"{statistics.first(table, 'q_horizon')} steps; mean over "
        f"{len(statistics.values(table, 'state'))} on-policy states and "
        f"{style.agents(table)}, bands or bars one standard error; "
        f"{statistics.first(table, 'simulations')} simulations, rollout leaves. Right: the same by "
        "fifths of the states, from the smallest to the largest error of the learned model along "
        "its own search. Spearman's rank correlation of that error with what the true model's "
        f"decision gains over the learned model's at step {style.thousands(last)}: "
        f"{', '.join(correlations)} (positive: errors explain lost improvement; agents that lose "
        "nothing have none)."
    )


COMPARED_BY = tuple(
    Measure(
        f"improvement, learned model, {prior} prior",
        "improvement",
        {"model": "learned", "prior": prior},
    )
    for prior in ("policy", "uniform")
)

EXPERIMENT = Experiment(
    name="decisions",
    title="Where planning helps: decisions and model error",
    tables=(SCHEMA,),
    run=run,
    plot=plot,
    caption=caption,
    view=view,
    settings=Deciding,
    measures=COMPARED_BY,
    steps=chosen,
    work=work,
    memory=memory,
    check=check,
    number=STREAM,
)
