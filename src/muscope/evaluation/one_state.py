"""One state under the microscope: a search's tree, and beside every node what is true of it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.agent import Agent
from muscope.config import SearchConfig
from muscope.envs import Environment, State
from muscope.evaluation.decisions import action_values
from muscope.evaluation.planners import MODELS, Planner, doubled, plan
from muscope.evaluation.play import muzero_behaviour, prior_logits
from muscope.evaluation.value_error import follow, values
from muscope.search import Tree, learned_parts, search


class Truth(NamedTuple):
    """What the true environment does along the way to every node of a tree."""

    reward: Float[Array, "nodes"]
    """r for the edge that leads here; 0 at the root and once the episode has ended."""
    ended: Bool[Array, "nodes"]
    """Whether the true episode is over here."""
    true_return: Float[Array, "nodes"]
    """v: discounted rewards from the root to here (Equation 3)."""
    predicted_return: Float[Array, "nodes"]
    """v_hat: the same of the predicted ones (Equation 4)."""
    states: State
    """Pytree of [nodes, ...]; undefined in rows that are no nodes."""


class Seen(NamedTuple):
    """One state, looked at."""

    tree: Tree
    """MuZero's own search, [nodes, ...]."""
    search_value: Float[Array, ""]
    """v^MCTS of the root."""
    prior: Float[Array, "A"]
    """pi_theta(a | s), without the search's tie noise."""
    truth: Truth
    on_line: Bool[Array, "nodes"]
    """The principal line; see :func:`on_principal_line`."""
    returns: Float[Array, "nodes R"]
    """Discounted returns of pi_MuZero from every node's true state on, R episodes; NaN away from
    the principal line."""
    q: Float[Array, "R A"]
    """Q(s, a) of following the policy prior after a, per episode."""
    planned: Float[Array, "4 A"]
    """Visits of Figure 7's planners with rollout leaves: both models, each under both priors."""


class Closeness(NamedTuple):
    """How closely to look."""

    simulations: int
    """N of Figure 7's planners."""
    horizon: int
    """H of theirs: tree depth plus rollout length."""
    episodes: int
    """R, of every true return."""
    steps: int
    """After which episodes that tell a return are cut."""


def beside_truth(environment: Environment, state: State, tree: Tree, discount: float) -> Truth:
    """Follow the actions of every node in the true environment.

    Args:
        environment: the true one.
        state: the root's.
        tree: of one lane, [nodes, ...].
        discount: gamma.

    """
    count = tree.parent.shape[0]

    def room(x: Array) -> Array:
        return jnp.zeros((count, *x.shape), x.dtype).at[0].set(x)

    begin = Truth(
        jnp.zeros(count),
        jnp.zeros(count, bool),
        jnp.zeros(count),
        jnp.zeros(count),
        jax.tree.map(room, state),
    )

    def add(truth: Truth, node: Int[Array, ""]) -> tuple[Truth, None]:
        parent = jnp.maximum(tree.parent[node], 0)
        power = discount ** (tree.depth[node] - 1).astype(jnp.float32)
        above = jax.tree.map(lambda x: x[parent], truth)
        moved = environment.step(above.states, jnp.maximum(tree.action[node], 0))
        here = Truth(
            jnp.where(above.ended, 0.0, moved.reward),
            above.ended | moved.terminated,
            above.true_return + power * jnp.where(above.ended, 0.0, moved.reward),
            above.predicted_return + power * tree.reward[node],
            moved.state,
        )
        kept = jax.tree.map(
            lambda new, all_: jnp.where(tree.depth[node] > 0, new, all_[node]), here, truth
        )
        return jax.tree.map(lambda all_, new: all_.at[node].set(new), truth, kept), None

    return jax.lax.scan(add, begin, jnp.arange(1, count))[0]


def on_principal_line(tree: Tree) -> Bool[Array, "nodes"]:
    """The nodes that the most visited edges lead to from the root, one after the other; the first
    of equally visited ones.
    """
    count = tree.parent.shape[0]

    def follow(carry, _):
        node, on = carry
        edge = jnp.argmax(tree.visits[node])
        child = jnp.where(tree.visits[node, edge] > 0, tree.children[node, edge], -1)
        following = jnp.where(child >= 0, child, node)
        return (following, on.at[following].set(True)), None

    begin = (jnp.int32(0), jnp.arange(count) == 0)
    return jax.lax.scan(follow, begin, None, length=count)[0][1]


def returns_of(
    environment: Environment,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    temperature: Float[Array, ""] | float,
    episodes: int,
    steps: int,
) -> Float[Array, "L R"]:
    """Discounted returns of pi_MuZero from states [L, ...], R episodes of at most so many steps."""
    behaviour = muzero_behaviour(environment, agent, config, discount, temperature)
    followed = follow(environment, behaviour, states, episodes, steps, key)
    return values(followed.path.reward, discount)[..., -1]


def see(
    environment: Environment,
    truth: Environment,
    agent: Agent,
    state: State,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    temperature: Float[Array, ""] | float,
    closeness: Closeness,
    line: int,
) -> Seen:
    """Look at one state.

    Args:
        environment: the game, in which returns are counted.
        truth: the true model, over the same states.
        agent: the networks.
        state: looked at.
        key: consumed.
        config: the settings of the agent's own search.
        discount: gamma.
        temperature: T at which pi_MuZero acts.
        closeness: how closely.
        line: nodes of the principal line whose returns are told, the root included; static.

    """
    search_key, plan_key, return_key, q_key = jax.random.split(key, 4)
    one = jax.tree.map(lambda x: x[None], state)
    roots = jax.tree.map(lambda z: z[None], agent.represent(environment.observe(state)))
    found = search(learned_parts(agent), roots, search_key, config, discount, keep_tree=True)
    tree: Tree = jax.tree.map(lambda x: x[0], found.tree)
    beside = beside_truth(truth, state, tree, discount)

    on = on_principal_line(tree)
    nodes = jnp.nonzero(on, size=line, fill_value=0)[0]
    told = returns_of(
        truth,
        agent,
        jax.tree.map(lambda x: x[nodes], beside.states),
        return_key,
        config,
        discount,
        temperature,
        closeness.episodes,
        closeness.steps,
    )
    returns = jnp.full((tree.parent.shape[0], closeness.episodes), jnp.nan).at[nodes].set(told)
    returns = jnp.where(on[:, None], returns, jnp.nan)

    q = action_values(environment, agent, one, q_key, closeness.episodes, closeness.steps, discount)
    prior = jax.nn.softmax(prior_logits(truth, agent, one))[0]
    planned = _planned(truth, agent, one, plan_key, config, discount, closeness)
    return Seen(tree, found.value[0], prior, beside, on, returns, q[:, 0], planned)


def _planned(
    truth: Environment,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    closeness: Closeness,
) -> Float[Array, "4 A"]:
    """Visits of Figure 7's planners, in the order of ``muscope.evaluation.decisions.PLANNERS``."""
    twice, guided = doubled(states)
    settings = replace(config, simulations=closeness.simulations)
    visits = [
        plan(
            Planner(model, "rollout", closeness.horizon),
            truth,
            agent,
            twice,
            guided,
            jax.random.fold_in(key, number),
            settings,
            discount,
        ).visits
        for number, model in enumerate(MODELS)
    ]
    return jnp.concatenate(visits)


def standard_error(returns: Float[np.ndarray, "*batch R"]) -> Float[np.ndarray, "*batch"]:
    """Of the mean over R episodes; NaN of a single one."""
    count = returns.shape[-1]
    if count < 2:
        return np.full(returns.shape[:-1], np.nan)
    return np.std(returns, axis=-1, ddof=1) / np.sqrt(count)
