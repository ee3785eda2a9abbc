"""Figure 4: the error of every action sequence against its probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.claims import Cells, Claim
from muscope.config import EvaluateConfig, Settings
from muscope.config.base import within
from muscope.envs import State
from muscope.errors import ConfigError
from muscope.evaluation.sequences import (
    AT_ONCE,
    EverySequence,
    in_parts,
    ranked,
    score_every_sequence,
)
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables
from muscope.experiments.lab import Bench, Scope
from muscope.experiments.measure import Measure
from muscope.experiments.memory import Sizes
from muscope.experiments.view import Beside, Choice, Lines, View
from muscope.room import Part, nbytes
from muscope.storage.schema import AGENT, STEP, TEMPERATURE, Schema, integer, number
from muscope.subjects import Subject
from muscope.work import Work, searching

STREAM = 4
MOST_SEQUENCES = 65_536
LONGEST = 16  # of sequences that two actions make so many of
PANELS = 9
SCHEMA = Schema(
    "figure4",
    "one row per (agent, checkpoint, rank); means over states at equal rank",
    (
        AGENT,
        STEP,
        integer(
            "rank",
            "0 for the sequence that pi_MuZero is least likely to take, up to A^h - 1; equal "
            "probabilities are ranked at random",
        ),
        number("probability", "Equation 6"),
        number("error", "Definition 1 at horizon h", "return"),
        number("alive_error", "|part of v_hat - v predicted before the true end|", "return"),
        number("ended_error", "|part of v_hat predicted after the true end|", "return"),
        number(
            "average_reward_error",
            "Definition 1 for a model that always predicts the mean reward under pi_MuZero at "
            "these states",
            "return",
        ),
        integer("horizon", "h", "steps"),
        integer("n_states", "M"),
        TEMPERATURE,
    ),
)
STATES_SCHEMA = Schema(
    "figure4_states",
    "one row per (agent, checkpoint, state)",
    (
        AGENT,
        STEP,
        integer("state", "number of the state, 0..M-1"),
        number(
            "spearman",
            "rank correlation of probability and error over its sequences (ties get mean ranks); "
            "NaN where all errors or all probabilities are equal",
            undefined=True,
        ),
        number("spread", "standard deviation of the true values over its sequences", "return"),
        number(
            "likely_error",
            "mean error weighted by probability: Definition 1 under pi_MuZero",
            "return",
        ),
        number("mean_error", "mean error, every sequence weighing the same", "return"),
    ),
)


@dataclass(frozen=True)
class AllSequences(Settings):
    """Figure 4: is the model more wrong where the behaviour policy seldom goes?"""

    section = "figure4"

    horizon: Annotated[int, *within(1, LONGEST)] = 8
    """h; all A^h action sequences are scored."""


def score_agent(
    scope: Scope,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    temperature: Float[Array, ""] | float,
    *,
    horizon: int,
) -> EverySequence:
    """One agent on all sequences from states [M, ...]; see :func:`score_every_sequence`."""
    return score_every_sequence(
        scope.truth, agent, states, key, scope.search, scope.discount, temperature, horizon
    )


def run(bench: Bench, settings: AllSequences, step: int) -> Tables:
    """One checkpoint's model on all sequences of ``figure4.horizon`` actions."""
    scored = jax.device_get(
        bench.call(
            score_agent,
            bench.at(step),
            bench.on_policy(step).states,
            bench.keys(step, STREAM),
            shared=(bench.temperature(step),),
            horizon=settings.horizon,
        )
    )
    return {
        "figure4": _ranks(bench, settings, step, scored),
        "figure4_states": _states(bench, settings, step, scored),
    }


def _ranks(bench: Bench, settings: AllSequences, step: int, scored: EverySequence) -> pa.Table:
    """The main table, from arrays [B, M, S]."""
    curves = [
        ranked(EverySequence(*(x[i] for x in scored)), [bench.evaluate.seed, step, agent])
        for i, agent in enumerate(bench.agents)
    ]
    return bench.table(
        SCHEMA,
        step,
        settings,
        rank=np.arange(scored.error.shape[-1]),
        **{name: np.stack([curve[name] for curve in curves]) for name in curves[0]},
        horizon=settings.horizon,
        n_states=bench.evaluate.states,
        temperature=bench.temperature(step),
    )


def _states(bench: Bench, settings: AllSequences, step: int, scored: EverySequence) -> pa.Table:
    """The table of states, from arrays [B, M, S]."""
    probability = np.exp(np.asarray(scored.log_probability, np.float64))
    likely = np.sum(probability * scored.error, axis=-1)
    return bench.table(
        STATES_SCHEMA,
        step,
        settings,
        state=np.arange(bench.evaluate.states),
        spearman=statistics.spearman(np.asarray(scored.log_probability), np.asarray(scored.error)),
        spread=np.std(scored.value, axis=-1),
        likely_error=likely / np.sum(probability, axis=-1),
        mean_error=np.mean(scored.error, axis=-1),
    )


def check(subject: Subject, settings: AllSequences) -> None:
    """Refuse more action sequences than fit.

    Raises:
        ConfigError: A^h is too large.

    """
    count = subject.environment.spec.num_actions**settings.horizon
    if count > MOST_SEQUENCES:
        raise ConfigError(
            f"figure4.horizon = {settings.horizon} makes {count:,} action sequences, more than "
            f"{MOST_SEQUENCES:,}; lower it."
        )


def work(subject: Subject, evaluate: EvaluateConfig, settings: AllSequences) -> list[Work]:
    """Every prefix of a sequence is stepped once and searched from, every sequence unrolled."""
    actions, horizon = subject.environment.spec.num_actions, settings.horizon
    inner = sum(actions**depth for depth in range(horizon))
    parts, size = in_parts(evaluate.states * inner)
    return [
        Work("environment", inner, evaluate.states * actions),
        Work("encoding", 1, evaluate.states),
        Work("model", horizon, evaluate.states * actions**horizon),
        *searching(parts, size, (subject.search.simulations,)),
    ]


def memory(sizes: Sizes, evaluate: EvaluateConfig, settings: AllSequences) -> list[Part]:
    """All sequences from all states at once; their searches in parts."""
    horizon, lower = settings.horizon, "figure4.horizon, evaluate.states"
    inner = evaluate.states * sum(sizes.actions**depth for depth in range(horizon))
    scored = evaluate.states * sizes.actions**horizon
    return [
        Part("its action sequences", scored * (horizon * 40 + sizes.place), lower),
        Part("the true states on the way", 2 * inner * nbytes(sizes.state), lower),
        Part("its searches", min(inner, AT_ONCE) * sizes.search(), "search.simulations"),
    ]


def plot(given: Tables) -> Figure:
    """Probability and error by rank, a panel per trained checkpoint."""
    steps = statistics.values(given["figure4"], "step")
    steps = style.few([step for step in steps if step > 0] or steps, PANELS)
    with style.context():
        figure, panels = style.grid(len(steps))
        twins = [axes.twinx() for axes in panels]
        for axes, right, step in zip(panels, twins, steps, strict=True):
            _panel(axes, right, given, step)
        top = max(right.get_ylim()[1] for right in twins)
        for right in twins:
            right.set_ylim(0.0, top)
        style.twin_labels(panels, twins, "probability", "value error")
        style.legend_below(figure, panels[0], twins[0], columns=2)
        return figure


def _panel(axes: Axes, right: Axes, given: Tables, step: int) -> None:
    """One checkpoint: probabilities on the left axis, errors on the right one."""
    table = given["figure4"]
    for on, column, colour, name in (
        (axes, "probability", style.COLOURS["mcts"], "probability"),
        (right, "error", style.COLOURS["prior"], "value error"),
    ):
        ranks, points = statistics.curve(table, column, "rank", step=step)
        mean, error = [s.mean for s in points], [s.standard_error for s in points]
        style.band(on, ranks, mean, error, colour, name, marker=None)
    ranks, points = statistics.curve(table, "average_reward_error", "rank", step=step)
    style.thin(right, ranks, [s.mean for s in points], (4.0, 2.0), "mean reward predicted")
    spread = statistics.summary(given["figure4_states"], "spread", step=step).mean
    style.thin(right, ranks[[0, -1]], [spread] * 2, (1.0, 1.5), "spread of true values")
    axes.set_title(f"{style.thousands(step)} steps", fontsize=9)
    axes.set_ylim(bottom=0.0)
    right.grid(False)
    right.spines["right"].set_visible(True)
    axes.set_xlabel("rank, unlikely to likely")


def view(given: Tables) -> View:
    """By rank, one checkpoint at a time: how likely a sequence is, and how wrong its value."""
    errors = {
        "error": "value error",
        "alive_error": "part predicted before the true end",
        "ended_error": "part predicted after the true end",
    }
    rank = "rank, unlikely to likely"
    likely = Lines("rank", rank, {"probability": "probability"}, title="how likely")
    wrong = Lines(
        "rank",
        rank,
        errors,
        beside=(Beside("average_reward_error", "mean reward predicted"),),
        title="how wrong",
    )
    return View((likely, wrong), (Choice("step", "training step", "slider"),))


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table, states = given["figure4"], given["figure4_states"]
    agents = len(statistics.values(table, "agent"))
    correlations = []
    for step, spearman in zip(*statistics.curve(states, "spearman", "step"), strict=True):
        mean = f"{spearman.mean:+.2f}" if spearman.n else "undefined"
        some = "" if spearman.n == agents else f" ({style.agents(spearman.n)})"
        correlations.append(f"{mean} at {style.thousands(int(step))}{some}")
    return (
        f"All {len(statistics.values(table, 'rank'))} sequences of "
        f"{statistics.first(table, 'horizon')} actions from "
        f"{statistics.first(table, 'n_states')} on-policy states, ranked by their probability "
        "under the behaviour policy (blue, left axis), with the learned model's value error at "
        f"equal rank (orange, right axis). Means over states, then over {style.agents(agents)}; "
        "bands are one standard error over agents. Thin lines: the error of a model that always "
        "predicts the mean reward, and the standard deviation of the true values over sequences. "
        f"Spearman's rank correlation of the two, mean over states and agents: "
        f"{', '.join(correlations)}."
    )


def _unlikely_is_wrong(cells: Cells) -> np.ndarray:
    return -cells.mean("spearman", step=cells.positive()).mean(axis=1)


def _always_so(cells: Cells) -> np.ndarray:
    return -cells.mean("spearman", step=cells.positive()).max(axis=1)


def _size(cells: Cells, least: int = 1) -> np.ndarray:
    """How much of the mean error is spared by weighing sequences by their probability: of means
    over states, so that states without any error do not decide.  [P, trained checkpoints]
    """
    steps = cells.positive(least=least)
    mean, likely = (cells.mean(name, step=steps) for name in ("mean_error", "likely_error"))
    with np.errstate(divide="ignore", invalid="ignore"):  # No error at all: undefined.
        return (mean - likely) / mean


def _by_how_much(cells: Cells) -> np.ndarray:
    return _size(cells).mean(axis=1)


def _later_half_less_first(by_step: np.ndarray) -> np.ndarray:
    half = by_step.shape[1] // 2
    return by_step[:, half:].mean(axis=1) - by_step[:, :half].mean(axis=1)


def _more_so(cells: Cells) -> np.ndarray:
    return _later_half_less_first(-cells.mean("spearman", step=cells.positive(least=2)))


def _by_more(cells: Cells) -> np.ndarray:
    return _later_half_less_first(_size(cells, least=2))


CLAIMS = (
    Claim(
        "5a",
        "The less likely the behaviour policy is to take a sequence, the larger its error.",
        "minus Spearman's correlation of probability and error, mean over states and trained "
        "checkpoints",
        "figure4_states",
        _unlikely_is_wrong,
    ),
    Claim(
        "5b",
        "Sequences that the behaviour policy is likely to take have much smaller errors.",
        "mean error of all sequences less that weighted by their probability, as a share of the "
        "former, both means over states; mean over trained checkpoints",
        "figure4_states",
        _by_how_much,
    ),
    Claim(
        "5c",
        "Unlikely sequences have larger errors at every training step.",
        "minus Spearman's correlation of probability and error, mean over states, least over "
        "trained checkpoints",
        "figure4_states",
        _always_so,
    ),
    Claim(
        "6a",
        "Unlikely sequences' larger error shows more with more training.",
        "Spearman's correlation in the first half of the trained checkpoints less the second's",
        "figure4_states",
        _more_so,
    ),
    Claim(
        "6b",
        "Unlikely sequences' error is larger by more with more training.",
        "5b's share in the second half of the trained checkpoints less the first's",
        "figure4_states",
        _by_more,
    ),
)

COMPARED_BY = (
    Measure("error, likely sequences", "likely_error", table=STATES_SCHEMA.name, ratio=True),
    Measure("error, all sequences", "mean_error", table=STATES_SCHEMA.name, ratio=True),
    Measure("rank correlation with probability", "spearman", table=STATES_SCHEMA.name),
)

EXPERIMENT = Experiment(
    name="figure4",
    title="Figure 4: every action sequence",
    tables=(SCHEMA, STATES_SCHEMA),
    run=run,
    plot=plot,
    caption=caption,
    view=view,
    settings=AllSequences,
    claims=CLAIMS,
    measures=COMPARED_BY,
    work=work,
    memory=memory,
    check=check,
    number=STREAM,
)
