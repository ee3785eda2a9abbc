"""A figure of one's own: is the very next reward right, for likely actions and for unlikely ones?

muscope evaluate RUN --figures examples/one_step.py:EXPERIMENT
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from muscope import statistics
from muscope.claims import Claim
from muscope.config import Settings
from muscope.config.base import Count
from muscope.experiments import Experiment, Work
from muscope.storage.schema import AGENT, STEP, Schema, number, text

ACTIONS = ["likely", "unlikely"]
ACTION = text("action", "the policy prior's favourite, or its last choice")
ERROR = number("error", "|r_t - u_t^0|, mean over states", "reward")
SCHEMA = Schema("one_step", "one row per (agent, checkpoint, action)", (AGENT, STEP, ACTION, ERROR))


@dataclass(frozen=True)
class OneStep(Settings):
    section = "one_step"

    states: Count = 32
    """How many of the on-policy states are looked at."""


def errors(scope, agent, states, *, count):
    """One agent's errors, [2]; states are a pytree of [M, ...]."""

    def at(state):
        z = agent.represent(scope.truth.observe(state))
        logits = agent.predict(z).policy_logits
        actions = jnp.stack([jnp.argmax(logits), jnp.argmin(logits)])
        true = jax.vmap(lambda a: scope.truth.step(state, a).reward)(actions)
        return jnp.abs(true - jax.vmap(lambda a: agent.step(z, a)[1])(actions))

    return jnp.mean(jax.vmap(at)(jax.tree.map(lambda x: x[:count], states)), axis=0)


def run(bench, settings, step):
    states = bench.on_policy(step).states
    error = bench.call(errors, bench.at(step), states, count=settings.states)
    return {"one_step": bench.table(SCHEMA, step, settings, action=ACTIONS, error=error)}


def plot(tables):
    figure = Figure(figsize=(3.5, 2.5), layout="constrained")
    axes = figure.subplots()
    for action in ACTIONS:
        steps, points = statistics.curve(tables["one_step"], "error", "step", action=action)
        axes.errorbar(steps, [p.mean for p in points], [p.standard_error for p in points])
    axes.set(xlabel="training steps", ylabel="error of the next reward")
    axes.legend(ACTIONS)
    return figure


def caption(tables):
    agents = len(statistics.values(tables["one_step"], "agent"))
    return f"Error of the next reward; means over {agents} agents, bars one standard error."


def likely_is_better(cells):
    error = cells.mean("error", step=cells.positive(), action=ACTIONS)
    return (error[..., 1] - error[..., 0]).mean(axis=1)


TEXT = "Rewards of likely actions are known better than those of unlikely ones."
STATISTIC = "error of the unlikely action less the likely one's, mean over trained checkpoints"
EXPERIMENT = Experiment(
    **{"name": "one_step", "title": "The next reward", "settings": OneStep, "tables": (SCHEMA,)},
    **{"run": run, "plot": plot, "caption": caption},
    work=lambda _, __, own: [Work("environment", 2, own.states), Work("model", 2, own.states)],
    claims=(Claim("own", TEXT, STATISTIC, "one_step", likely_is_better),),
)
