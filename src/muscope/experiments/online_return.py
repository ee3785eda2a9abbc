"""Figure 2: online return of MCTS and of the policy prior through training."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.claims import Cells, Claim, Noted, below_ceiling, ceiling
from muscope.config import EvaluateConfig, Settings
from muscope.evaluation.play import Scores, play, prior_policy
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Bench, Scope, interleave
from muscope.experiments.measure import Measure
from muscope.experiments.memory import Sizes
from muscope.experiments.view import Choice, Colour, Lines, View
from muscope.room import Part
from muscope.storage.schema import AGENT, STEP, Schema, integer, number, text
from muscope.subjects import Subject
from muscope.work import Work, acting, within

STREAM = 1
"""Random stream of the prior's episodes; those of MCTS are the on-policy episodes."""
TEMPERED = 1
"""Folded into a key of that stream for the tempered prior, whose episodes are others."""
POLICIES = {"mcts": "MCTS", "prior": "policy prior"}
"""Values of the column ``policy`` that are drawn with bands, with their names in the picture."""
SCHEMA = Schema(
    "figure2",
    "one row per episode",
    (
        AGENT,
        STEP,
        text(
            "policy",
            "'mcts': sampled from Equation 1; 'prior': sampled from the policy head; "
            "'prior_tempered': the same at the temperature of Equation 1 at that step",
        ),
        integer("episode", "number of the episode within (agent, step, policy)"),
        number("return", "undiscounted return", "return"),
        integer("length", "until termination or the time limit", "steps", measured=True),
        number(
            "temperature",
            "T that actions are sampled at: of Equation 1 at that step; 1 for the plain prior",
            measured=False,
        ),
    ),
)


@dataclass(frozen=True)
class OnlineReturn(Settings):
    """Figure 2: how much does acting by search return, and how much the policy prior?"""

    section = "figure2"


def prior_scores(scope: Scope, agent: Agent, key: Key[Array, ""]) -> Scores:
    """Episodes of one agent's policy prior; ``key`` is consumed."""
    policy = prior_policy(scope.environment, agent)
    return play(scope.environment, policy, scope.evaluate.episodes, key)


def tempered_scores(
    scope: Scope, agent: Agent, key: Key[Array, ""], temperature: Float[Array, ""] | float
) -> Scores:
    """Episodes of one agent's policy prior at a temperature; ``key`` is that of the plain prior."""
    policy = prior_policy(scope.environment, agent, temperature)
    own_key = jax.random.fold_in(key, TEMPERED)
    return play(scope.environment, policy, scope.evaluate.episodes, own_key)


def run(bench: Bench, settings: OnlineReturn, step: int) -> Tables:
    """Episodes of all three policies at one checkpoint."""
    agents, keys, temperature = bench.at(step), bench.keys(step, STREAM), bench.temperature(step)
    prior = bench.call(prior_scores, agents, keys)
    tempered = bench.call(tempered_scores, agents, keys, shared=(temperature,))
    parts = [
        bench.table(
            SCHEMA,
            step,
            settings,
            policy=policy,
            episode=np.arange(bench.evaluate.episodes),
            **{"return": scores.score, "length": scores.length},
            temperature=at,
        )
        for policy, scores, at in (
            ("mcts", bench.on_policy(step).scores, temperature),
            ("prior", prior, 1.0),
            ("prior_tempered", tempered, temperature),
        )
    ]
    return {"figure2": interleave(parts, len(bench.agents))}


def work(subject: Subject, evaluate: EvaluateConfig, settings: OnlineReturn) -> list[Work]:
    """The prior's episodes, plain and tempered; those of MCTS are shared."""
    limit = subject.environment.spec.time_limit
    return [
        place
        for program in ("prior", "tempered prior")
        for place in within(acting(limit, evaluate.episodes), program, played=limit)
    ]


def memory(sizes: Sizes, evaluate: EvaluateConfig, settings: OnlineReturn) -> list[Part]:
    """The prior, plain and then tempered, plays as many episodes as the search, which all
    experiments share.
    """
    size = evaluate.episodes * (sizes.forward + sizes.place)
    return [Part("its episodes", size, "evaluate.episodes")]


def plot(given: Tables) -> Figure:
    """Mean return ± standard error over agents, MCTS against the policy prior; thin, the prior at
    the temperature of MCTS.
    """
    table = given["figure2"]
    with style.context():
        figure, axes = style.single()
        for policy, name in POLICIES.items():
            steps, points = statistics.curve(table, "return", "step", policy=policy)
            style.band(
                axes,
                steps,
                [s.mean for s in points],
                [s.standard_error for s in points],
                style.COLOURS[policy],
                name,
            )
        if _has_tempered(table):
            steps, points = statistics.curve(table, "return", "step", policy="prior_tempered")
            means = [s.mean for s in points]
            style.thin(axes, steps, means, (4.0, 2.0), "prior at MCTS's T", style.COLOURS["prior"])
        style.training_axis(axes, statistics.values(table, "step"))
        axes.set_ylabel("return")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.legend()
        return figure


def _has_tempered(table: pa.Table) -> bool:
    """Tables of older versions have not."""
    return "prior_tempered" in statistics.values(table, "policy")


def view(given: Tables) -> View:
    """By checkpoint, policies beside each other."""
    colours: dict[str, Colour] = {"mcts": "blue", "prior": "orange", "prior_tempered": "purple"}
    lines = Lines(
        "step",
        "training steps",
        {"return": "return", "length": "length of an episode, steps"},
        colour="policy",
        colours=colours,
        scale="training",
    )
    return View((lines,), (Choice("policy", "policies"),))


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["figure2"]
    thin = (
        " Thin: the prior sampled at the temperature of Equation 1, as MCTS is."
        if _has_tempered(table)
        else ""
    )
    return (
        f"Undiscounted return of MCTS ({statistics.first(table, 'simulations')} simulations, "
        "actions sampled from Equation 1, no exploration noise) and of the policy prior at "
        "checkpoints through training. Lines are means over "
        f"{style.agents(table)}, "
        f"{len(statistics.values(table, 'episode'))} episodes each; bands are one standard error "
        f"over agents.{thin}"
    )


def _mcts_and(cells: Cells, other: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns at trained checkpoints, each [P, steps]."""
    mean = cells.mean("return", step=cells.positive(), policy=["mcts", other])
    return mean[..., 0], mean[..., 1]


def _mcts_leads(cells: Cells, other: str) -> Noted:
    mcts, prior = _mcts_and(cells, other)
    return below_ceiling(cells, cells.positive(), ["policy"], mcts - prior, mcts, prior)


def _mcts_less_prior(cells: Cells) -> Noted:
    return _mcts_leads(cells, "prior")


def _mcts_less_tempered(cells: Cells) -> Noted:
    return _mcts_leads(cells, "prior_tempered")


def _mcts_less_prior_everywhere(cells: Cells) -> np.ndarray:
    mcts, prior = _mcts_and(cells, "prior")
    return (mcts - prior).mean(axis=1)


CLAIMS = (
    Claim(
        "1",
        "MCTS returns more than the policy prior through training.",
        f"return of MCTS less the prior's at trained checkpoints, {ceiling.WORDS}",
        "figure2",
        _mcts_less_prior,
    ),
    Claim(
        "1",
        "MCTS returns more than the policy prior through training.",
        "return of MCTS less the prior's, mean over all trained checkpoints",
        "figure2",
        _mcts_less_prior_everywhere,
        former=True,
    ),
    Claim(
        "1b",
        "MCTS returns more than the policy prior that is sampled at the same temperature.",
        "return of MCTS less that of the prior at the temperature of Equation 1, at trained "
        f"checkpoints, {ceiling.WORDS}",
        "figure2",
        _mcts_less_tempered,
    ),
)

COMPARED_BY = tuple(
    Measure(f"return of {name}", "return", {"policy": policy}) for policy, name in POLICIES.items()
)

EXPERIMENT = Experiment(
    name="figure2",
    title="Figure 2: online return",
    tables=(SCHEMA,),
    run=run,
    plot=plot,
    caption=caption,
    view=view,
    settings=OnlineReturn,
    claims=CLAIMS,
    measures=COMPARED_BY,
    work=work,
    memory=memory,
    number=STREAM,
    revision=2,  # The tempered prior's rows.
)
