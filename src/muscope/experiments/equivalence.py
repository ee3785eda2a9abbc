"""Beyond the paper: order-h value equivalence, the error that a search meets.

The numbers are those of :mod:`muscope.evaluation.equivalence`, over policies (the checkpoint's own
pi_MuZero, its prior, uniformly random actions, other checkpoints' pi_MuZero) and over functions
(the agent's own value network, random ones, other checkpoints').
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Int, Key
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from muscope import statistics
from muscope.agent import Agent
from muscope.config import EvaluateConfig, Settings
from muscope.config.base import Checkpoints, Count, HorizonOrNone, Whole
from muscope.envs import State
from muscope.errors import ConfigError
from muscope.evaluation.distinct import part_size
from muscope.evaluation.equivalence import (
    MUZERO,
    PRIOR,
    UNIFORM,
    OrderErrors,
    behaviour_of,
    can_ask_others,
    differences,
    report_on,
)
from muscope.experiments import style
from muscope.experiments.base import Experiment, Tables, every
from muscope.experiments.lab import Bench, Scope
from muscope.experiments.measure import LAST, Measure
from muscope.experiments.memory import Sizes
from muscope.experiments.own_policy import (
    SQUARED_ERROR,
    SQUARED_NOISE,
    following,
    memory_of_following,
)
from muscope.experiments.view import Choice, Colour, Lines, View
from muscope.room import Part
from muscope.storage.schema import AGENT, Schema, integer, number, text
from muscope.subjects import Subject
from muscope.work import Work, within

STREAM = 8
"""Of its random numbers."""
FUNCTIONS = 2**31
"""Takes the place of a training step in the key of random functions, which are the same ones for
all agents and checkpoints."""
SCHEMA = Schema(
    "equivalence",
    "one row per (agent, checkpoint, policy, function, horizon); errors are means over states",
    (
        AGENT,
        integer("step", "training step of the model, whose on-policy states they are"),
        text(
            "policy",
            "whose actions are followed: own (pi_MuZero of this checkpoint), prior (its policy "
            "prior), uniform (every action alike), other (pi_MuZero of policy_step)",
        ),
        integer("policy_step", "training step of that policy"),
        text(
            "function",
            "the function v of latent states: own (this checkpoint's value network), random (a "
            "freshly drawn network, shifted and scaled to the mean and spread of the own one at "
            "these states), other (the value network of function_step, asked about this model's "
            "latent states)",
        ),
        integer("number", "of the random function, 0 for others"),
        integer("function_step", "training step of that function; of a random one, of its scale"),
        integer("horizon", "h, 1..h_max", "steps"),
        number(
            "error",
            "|mean over R of (sum_{k<h} gamma^k (r_{t+k} - u_t^k) + gamma^h (v(h(s_{t+h})) - "
            "v(z_t^h)))|; v of a true end is 0",
            "return",
        ),
        number(
            "standard_error",
            "Monte Carlo standard error of that mean at one state (from R)",
            "return",
        ),
        number("states_error", "standard error of error as a mean over the states", "return"),
        number("absolute_error", "mean over R of the difference's absolute value", "return"),
        SQUARED_ERROR,
        SQUARED_NOISE,
        number("rewards_error", "the same of the sum over rewards alone: Definition 2", "return"),
        number("value_error", "the same of the values' discounted difference alone", "return"),
        number(
            "spread",
            "standard deviation, over states and sequences, of what h true steps and the true "
            "state's v come to",
            "return",
        ),
        number("ended", "share of sequences whose episode was over after h actions"),
        integer("n_states", "states looked at"),
        integer("n_sequences", "R"),
        number("temperature", "T of Equation 1 at policy_step", measured=False),
    ),
)


@dataclass(frozen=True)
class Equivalence(Settings):
    """Order-h value equivalence: what h steps of the model and a value are off by."""

    section = "equivalence"

    states: Count = 24
    """How many of the on-policy states (evaluate.states) are looked at."""
    sequences: Count = 4
    """R, Monte Carlo action sequences per state."""
    horizon: HorizonOrNone = 0
    """h, the longest horizon; 0 for K, the steps that the model was trained to look ahead."""
    functions: Whole = 3
    """Random functions that are asked."""
    others: Checkpoints = ()
    """Training steps whose policies and value networks are asked too; the last checkpoint's if
    none is given."""


class Policy(NamedTuple):
    """One of those that are followed."""

    name: str
    kind: int
    step: int


def others_of(subject: Subject, evaluate: EvaluateConfig, settings: Equivalence) -> tuple[int, ...]:
    """The checkpoints whose policies and functions are asked.

    Raises:
        ConfigError: one is not among those that are examined.

    """
    examined = every(subject, evaluate, settings)
    strange = sorted(set(settings.others) - set(examined))
    if strange:
        raise ConfigError(
            f"equivalence.others names {strange}; the checkpoints that are examined are "
            f"{list(examined)}."
        )
    return tuple(sorted(set(settings.others))) or examined[-1:]


def policies_of(step: int, others: Sequence[int]) -> list[Policy]:
    """Those that a model of ``step`` is asked about."""
    return [
        Policy("own", MUZERO, step),
        Policy("prior", PRIOR, step),
        Policy("uniform", UNIFORM, step),
        *(Policy("other", MUZERO, other) for other in others if other != step),
    ]


def errors_of_agent(
    scope: Scope,
    model: Agent,
    actor: Agent,
    others: Agent | None,
    states: State,
    key: Key[Array, ""],
    functions_key: Key[Array, ""],
    kind: Int[Array, ""] | int,
    temperature: Float[Array, ""] | float,
    *,
    count: int,
    sequences: int,
    horizon: int,
    functions: int,
) -> OrderErrors:
    """One agent's model on one policy; see :func:`muscope.evaluation.equivalence.differences`."""
    found = differences(
        scope.truth,
        model,
        others,
        behaviour_of(scope.truth, actor, scope.search, scope.discount, kind, temperature),
        jax.tree.map(lambda x: x[:count], states),
        key,
        functions_key,
        scope.discount,
        sequences,
        horizon,
        functions,
    )
    return report_on(found)


def run(bench: Bench, settings: Equivalence, step: int) -> Tables:
    """One checkpoint's model on all policies."""
    others = others_of(bench.subject, bench.evaluate, settings)
    policies = policies_of(step, others)
    asked = _others_agents(bench, step, others)
    reports = [_report(bench, settings, step, policy, asked) for policy in policies]
    functions = functions_of(step, settings.functions, others if asked is not None else ())
    # [B, policies, functions, h], without functions that would be asked twice.
    places = [place for place, _ in functions]
    measured = {
        name: np.stack([np.asarray(getattr(r, name))[:, places] for r in reports], axis=1)
        for name in OrderErrors._fields
    }
    rows = [(p, f) for p in policies for _, f in functions]
    repeated: dict[str, list[Any]] = {
        "policy": [p.name for p, _ in rows],
        "policy_step": [p.step for p, _ in rows],
        "function": [f.name for _, f in rows],
        "number": [f.number for _, f in rows],
        "function_step": [f.step for _, f in rows],
        "temperature": [bench.temperature(p.step) for p, _ in rows],
    }
    horizons = np.arange(1, 1 + (settings.horizon or bench.subject.unroll))
    table = bench.table(
        SCHEMA,
        step,
        settings,
        **{name: np.repeat(values, len(horizons)) for name, values in repeated.items()},
        horizon=np.tile(horizons, len(rows)),
        **{name: x.reshape(len(bench.agents), -1) for name, x in measured.items()},
        n_states=_states(bench.evaluate, settings),
        n_sequences=settings.sequences,
    )
    return {"equivalence": table}


def _report(
    bench: Bench, settings: Equivalence, step: int, policy: Policy, asked: Agent | None
) -> OrderErrors:
    """The models of a checkpoint on one policy, [B, F, h]; one program serves all policies."""
    root = jax.random.fold_in(jax.random.key(bench.evaluate.seed), FUNCTIONS)
    return bench.call(
        errors_of_agent,
        bench.at(step),
        bench.at(policy.step),
        asked,
        bench.on_policy(step).states,
        bench.keys(step, STREAM),
        shared=(
            jax.random.fold_in(root, STREAM),
            policy.kind,
            bench.temperature(policy.step),
        ),
        count=_states(bench.evaluate, settings),
        sequences=settings.sequences,
        horizon=settings.horizon or bench.subject.unroll,
        functions=settings.functions,
    )


def _states(evaluate: EvaluateConfig, settings: Equivalence) -> int:
    """How many are looked at."""
    return min(settings.states, evaluate.states)


def _others_agents(bench: Bench, step: int, others: Sequence[int]) -> Agent | None:
    """The agents [B, Y, ...] whose value networks are asked; None if they cannot be."""
    seen = jax.ShapeDtypeStruct(bench.scope.truth.spec.observation_shape, jnp.float32)
    one = jax.tree.map(lambda x: x[0], bench.at(step))
    if not can_ask_others(jax.eval_shape(lambda agent, o: agent.represent(o), one, seen)):
        return None
    return jax.tree.map(lambda *x: jnp.stack(x, axis=1), *[bench.at(other) for other in others])


class Function(NamedTuple):
    """One of those that are asked."""

    name: str
    number: int
    step: int


def functions_of(step: int, count: int, others: Sequence[int]) -> list[tuple[int, Function]]:
    """Functions with their places in a report: those of this very checkpoint once."""
    found = [
        Function("own", 0, step),
        *(Function("random", number, step) for number in range(count)),
        *(Function("other", 0, other) for other in others),
    ]
    return [(i, f) for i, f in enumerate(found) if f.name != "other" or f.step != step]


def work(subject: Subject, evaluate: EvaluateConfig, settings: Equivalence) -> list[Work]:
    """Every policy is followed, every state on the way is encoded, and every function asked about
    both sides.
    """
    horizon = settings.horizon or subject.unroll
    others = others_of(subject, evaluate, settings)
    looked = replace(evaluate, states=_states(evaluate, settings))
    starts = looked.states * settings.sequences
    size = part_size(starts)
    parts = sum(
        -(-min(looked.states * subject.environment.spec.num_actions**k, starts) // size)
        for k in range(horizon)
    )
    policies, asked = 3 + len(others), 1 + len(others)
    works = following(subject, looked, settings.sequences, horizon, 1 + len(others))
    # What does not search is followed and scored too.
    works += [
        Work("environment", 2 * horizon, starts),
        Work("encoding", 2, looked.states),
        Work("model", 2 * horizon, starts),
        Work("encoding", parts, size),
        Work("prediction", parts, size),
        Work("encoding", policies * horizon, starts),
        Work("prediction", 2 * policies * horizon, asked * starts),
        Work("prediction", policies, looked.states),
    ]
    return within(works, "equivalence")


def memory(sizes: Sizes, evaluate: EvaluateConfig, settings: Equivalence) -> list[Part]:
    """As Figure 3's, of fewer states, with the functions' values on both sides."""
    looked = replace(evaluate, states=_states(evaluate, settings))
    horizon = settings.horizon or sizes.unroll
    functions = 1 + settings.functions + max(len(settings.others), 1)
    values = looked.states * settings.sequences * horizon * functions
    lower = "equivalence.states, equivalence.sequences, equivalence.functions"
    followed = memory_of_following("equivalence", sizes, looked, settings.sequences, horizon)
    return [*followed, Part("its functions' values", 6 * 4 * values, lower)]


def steps(subject: Subject, evaluate: EvaluateConfig, settings: Equivalence) -> tuple[int, ...]:
    """All that are examined.

    Raises:
        ConfigError: another checkpoint that is asked is not among them.

    """
    others_of(subject, evaluate, settings)
    return every(subject, evaluate, settings)


COLOURS = {"own": "#0072B2", "random": "#CC79A7", "prior": "#E69F00", "uniform": "#009E73"}
LATER = "#555555"
"""Okabe and Ito (2008)."""


def plot(given: Tables) -> Figure:
    """By horizon at the last checkpoint; by training step for all functions, and for all
    policies.
    """
    table = given["equivalence"]
    last = statistics.values(table, "horizon")[-1]
    with style.context():
        figure, panels = style.grid(3)
        _by_horizon(panels[0], table)
        longest = statistics.rows(table, horizon=last)
        for axes, column, fixed, title in (
            (panels[1], "function", {"policy": "own"}, "own policy, all functions"),
            (panels[2], "policy", {"function": "own"}, "own function, all policies"),
        ):
            _by_step(axes, statistics.rows(longest, **fixed), column)
            axes.set_title(f"{title}, h = {last}", fontsize=8)
        panels[0].set_ylabel("error of order h")
        style.legend_below(figure, *panels, columns=4)
        return figure


def _by_horizon(axes: Axes, table: pa.Table) -> None:
    """The last checkpoint's error, and its two parts."""
    step = statistics.values(table, "step")[-1]
    own = statistics.rows(table, step=step, policy="own", function="own")
    horizons, points = statistics.curve(own, "error", "horizon")
    mean, error = [s.mean for s in points], [s.standard_error for s in points]
    style.band(axes, horizons, mean, error, COLOURS["own"], "", marker=None)
    for column, dashes, name in (
        ("rewards_error", (4.0, 2.0), "rewards alone (Definition 2)"),
        ("value_error", (1.0, 1.5), "value alone"),
    ):
        _, points = statistics.curve(own, column, "horizon")
        style.thin(axes, horizons, [s.mean for s in points], dashes, name)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("horizon h")
    axes.set_title(f"own policy and function, {style.thousands(step)} steps", fontsize=8)


def _by_step(axes: Axes, table: pa.Table, column: str) -> None:
    """A line for each kind of policy or function, and rewards alone."""
    steps = statistics.values(table, "step")
    for kind in statistics.values(table, column):
        here, points = statistics.curve(table, "error", "step", **{column: kind})
        mean, error = [s.mean for s in points], [s.standard_error for s in points]
        style.band(axes, here, mean, error, COLOURS.get(kind, LATER), f"{kind} {column}")
    _, points = statistics.curve(table, "rewards_error", "step", **{column: "own"})
    style.thin(axes, steps, [s.mean for s in points], (4.0, 2.0), "")
    style.training_axis(axes, steps)
    style.scale_to_trained(axes, steps)


def view(given: Tables) -> View:
    """By checkpoint, policies beside each other, for chosen functions and a horizon."""
    colours: dict[str, Colour] = {
        "own": "blue",
        "prior": "orange",
        "uniform": "green",
        "other": "grey",
    }
    measures = {
        "error": "error of order h",
        "absolute_error": "mean of the difference's absolute value",
        "rewards_error": "of rewards alone (Definition 2)",
        "value_error": "of the value alone",
        "spread": "spread of true values of that order",
        "ended": "share of sequences that were over",
    }
    known = statistics.values(given["equivalence"], "function")
    lines = Lines(
        "step",
        "training steps",
        measures,
        # The first has full lines.
        where={"function": [name for name in ("own", "random", "other") if name in known]},
        colour="policy",
        dash="function",
        colours=colours,
        scale="training",
    )
    choices = (
        Choice("horizon", "horizon h", "slider"),
        Choice("policy", "policies"),
        Choice("function", "functions", first=("own",)),
    )
    return View((lines,), choices)


def caption(given: Tables) -> str:
    """What the picture shows, with the numbers it was made with."""
    table = given["equivalence"]
    last = statistics.values(table, "horizon")[-1]
    step = statistics.values(table, "step")[-1]
    cell = statistics.rows(table, step=step, policy="own", function="own", horizon=last)
    error, rewards, spread = (
        statistics.summary(cell, name).mean for name in ("error", "rewards_error", "spread")
    )
    others = sorted(set(statistics.values(statistics.rows(table, policy="other"), "policy_step")))
    named = (
        f" Other policies and functions are those of step {', '.join(map(str, others))}."
        if others
        else ""
    )
    randoms = len(statistics.values(statistics.rows(table, function="random"), "number"))
    return (
        "Value equivalence of order h: |mean over action sequences of the discounted rewards' "
        "difference over h steps, true less model, plus gamma^h times that of v at the true state "
        "and at the latent state|, the error that a search of depth h meets. Left: by horizon at "
        f"the last checkpoint, with its two parts. Middle and right: at h = {last}; the dashed "
        "line is the part of the rewards, Definition 2 as in Figure 3. Means over "
        f"{statistics.first(table, 'n_states')} on-policy states, "
        f"{statistics.first(table, 'n_sequences')} action sequences each, and "
        f"{style.agents(table)}, bands one standard error over agents; random functions ("
        f"{randoms}) have the mean and the spread of the agent's own.{named} At {step:,} steps and "
        f"h = {last} the error is {error:.3g}, of rewards alone {rewards:.3g}; true values of that "
        f"order spread by {spread:.3g}."
    )


COMPARED_BY = (
    Measure(
        "order-h error, own policy and function, h = {horizon}",
        "error",
        {"policy": "own", "function": "own", "horizon": LAST},
        ratio=True,
    ),
)
EXPERIMENT = Experiment(
    name="equivalence",
    title="Value equivalence of order h: the error that a search meets",
    tables=(SCHEMA,),
    run=run,
    plot=plot,
    caption=caption,
    view=view,
    settings=Equivalence,
    steps=steps,
    work=work,
    memory=memory,
    measures=COMPARED_BY,
    across=True,
    number=STREAM,
)
