"""Figure 2: online return of MCTS and of the policy prior through training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Key
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.claims import Cells, Claim
from muscope.config import EvaluateConfig, Settings
from muscope.evaluation.play import Scores, play, prior_policy
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Bench, Scope, interleave
from muscope.experiments.memory import Sizes
from muscope.room import Part
from muscope.storage.schema import AGENT, STEP, Schema, integer, number, text
from muscope.subjects import Subject
from muscope.work import Work, acting, within

STREAM = 1
"""Random stream of the prior's episodes; those of MCTS are the on-policy episodes."""
POLICIES = {"mcts": "MCTS", "prior": "policy prior"}
"""Values of the column ``policy``, with their names in the picture."""
SCHEMA = Schema(
    "figure2",
    "one row per episode",
    (
        AGENT,
        STEP,
        text("policy", "'mcts': sampled from Equation 1; 'prior': sampled from the policy head"),
        integer("episode", "number of the episode within (agent, step, policy)"),
        number("return", "undiscounted return", "return"),
        integer("length", "until termination or the time limit", "steps", measured=True),
        number(
            "temperature", "T of Equation 1 at that step (the prior has none: 1)", measured=False
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


def run(bench: Bench, settings: OnlineReturn, step: int) -> Tables:
    """Episodes of both policies at one checkpoint."""
    prior = bench.call(prior_scores, bench.at(step), bench.keys(step, STREAM))
    parts = [
        bench.table(
            SCHEMA,
            step,
            settings,
            policy=policy,
            episode=np.arange(bench.evaluate.episodes),
            **{"return": scores.score, "length": scores.length},
            temperature=temperature,
        )
        for policy, scores, temperature in (
            ("mcts", bench.on_policy(step).scores, bench.temperature(step)),
            ("prior", prior, 1.0),
        )
    ]
    return {"figure2": interleave(parts, len(bench.agents))}


def work(subject: Subject, evaluate: EvaluateConfig, settings: OnlineReturn) -> list[Work]:
    """The prior's episodes; those of MCTS are shared."""
    limit = subject.environment.spec.time_limit
    return within(acting(limit, evaluate.episodes), played=limit)


def memory(sizes: Sizes, evaluate: EvaluateConfig, settings: OnlineReturn) -> list[Part]:
    """The prior plays as many episodes as the search, which all experiments share."""
    size = evaluate.episodes * (sizes.forward + sizes.place)
    return [Part("its episodes", size, "evaluate.episodes")]


def plot(given: Tables) -> Figure:
    """Mean return ± standard error over agents, MCTS against the policy prior."""
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
        style.training_axis(axes, statistics.values(table, "step"))
        axes.set_ylabel("return")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.legend()
        return figure


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["figure2"]
    return (
        f"Undiscounted return of MCTS ({statistics.first(table, 'simulations')} simulations, "
        "actions sampled from Equation 1, no exploration noise) and of the policy prior at "
        "checkpoints through training. Lines are means over "
        f"{style.agents(table)}, "
        f"{len(statistics.values(table, 'episode'))} episodes each; bands are one standard error "
        "over agents."
    )


def _mcts_less_prior(cells: Cells) -> np.ndarray:
    mean = cells.mean("return", step=cells.positive(), policy=["mcts", "prior"])
    return (mean[..., 0] - mean[..., 1]).mean(axis=1)


CLAIMS = (
    Claim(
        "1",
        "MCTS returns more than the policy prior through training.",
        "return of MCTS less the prior's, mean over trained checkpoints",
        "figure2",
        _mcts_less_prior,
    ),
)

EXPERIMENT = Experiment(
    name="figure2",
    title="Figure 2: online return",
    tables=(SCHEMA,),
    run=run,
    plot=plot,
    caption=caption,
    settings=OnlineReturn,
    claims=CLAIMS,
    work=work,
    memory=memory,
    number=STREAM,
)
