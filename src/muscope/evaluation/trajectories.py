"""Where the learned model's search goes, and how wrong the model is there (Figure 6).

Every simulation is a sequence of H actions: a path of the tree and a rollout from its end.  The
true environment follows beside the search and tells its value error (Definition 1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from muscope.agent import Agent
from muscope.config import SearchConfig
from muscope.envs import Environment, State
from muscope.evaluation.planners import (
    Node,
    Planner,
    TruePlace,
    doubled,
    model_step,
    planner_parts,
    random_actions,
    rollout,
)
from muscope.evaluation.play import prior_logits
from muscope.search import Parts, SearchResult, search


class Pair(NamedTuple):
    """A place in both models at once, reached by the same actions."""

    latent: Any
    true: TruePlace
    difference: Float[Array, ""]
    """v - v_hat of the actions so far (Equations 3 and 4)."""
    power: Float[Array, ""]
    """gamma^depth"""


class TrajectoryError(NamedTuple):
    """Definition 1 for one simulation."""

    whole: Float[Array, "..."]
    """Of its tree path and rollout, H actions."""
    path: Float[Array, "..."]
    """Of its tree path alone."""


def paired_parts(environment: Environment, agent: Agent, horizon: int, discount: float) -> Parts:
    """The learned model's search with rollouts, and beside it the truth about every simulation.

    The true environment only follows: it changes nothing in the search.
    """
    learned = Planner("learned", "rollout", horizon)
    true = Planner("true", "rollout", horizon)
    learned_step = model_step(learned, environment, agent)
    true_step = model_step(true, environment, agent)
    alone = planner_parts(learned, environment, agent, discount)

    def search_node(node: Node) -> Node:
        return Node(node.place.latent, node.guided)

    def step(node: Node, action):
        pair = node.place
        latent, u = learned_step(pair.latent, action)
        place, r = true_step(pair.true, action)
        difference = pair.difference + pair.power * (r - u)
        return Node(Pair(latent, place, difference, pair.power * discount), node.guided), u

    def trace(node: Node, depth, key) -> TrajectoryError:
        actions = random_actions(key, horizon, environment.spec.num_actions)
        pair, length = node.place, horizon - depth
        v, v_hat = (
            rollout(planner, environment, agent, place, actions, length, discount)
            for planner, place in ((true, pair.true), (learned, pair.latent))
        )
        whole = pair.difference + pair.power * (v - v_hat)
        return TrajectoryError(jnp.abs(whole), jnp.abs(pair.difference))

    return Parts(
        step=step,
        prior=lambda node: alone.prior(search_node(node)),
        leaf=lambda node, depth, key: alone.leaf(search_node(node), depth, key),
        trace=trace,
    )


def plan_in_pairs(
    environment: Environment,
    agent: Agent,
    states: State,
    guided: Bool[Array, "L"],
    horizon: int,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
) -> SearchResult:
    """The learned model's search from true states, with the truth about every simulation.

    Args:
        environment: the true one.
        agent: the networks.
        states: pytree of [L, ...].
        guided: per lane, the policy's prior or the uniform one.
        horizon: H.
        key: consumed.
        config: the search's settings; its ``max_depth`` becomes H.
        discount: gamma.

    Returns:
        A result whose trace holds :class:`TrajectoryError` s [N, L], and the root's visits
        [N, L, A] after every simulation.

    """

    def root(state: State) -> Pair:
        truth = TruePlace(state, jnp.array(False))
        latent = agent.represent(environment.observe(state))
        return Pair(latent, truth, jnp.zeros(()), jnp.ones(()))

    return search(
        paired_parts(environment, agent, horizon, discount),
        Node(jax.vmap(root)(states), guided),
        key,
        replace(config, max_depth=horizon),
        discount,
    )


class Course(NamedTuple):
    """Searches' courses, by prior and number of simulations; means over states.

    The fields are the columns of their names in the table ``figure6``, whose meanings stand in its
    schema (``docs/tables.md``).
    """

    error: Float[Array, "2 N"]
    error_tree_path: Float[Array, "2 N"]
    tv: Float[Array, "2 N"]
    kl: Float[Array, "2 N"]


def search_course(
    environment: Environment,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    horizon: int,
) -> Course:
    """Follow the learned model's searches with either prior, simulation by simulation.

    Args:
        environment: the true one.
        agent: the networks.
        states: [M, ...] to search from.
        key: consumed.
        config: the search's settings; N is its ``simulations``.
        discount: gamma.
        horizon: H.

    """
    roots, guided = doubled(states)
    result = plan_in_pairs(environment, agent, roots, guided, horizon, key, config, discount)
    errors, visits = result.trace
    prior = jax.nn.softmax(prior_logits(environment, agent, roots))
    tv, kl = regularisation(jnp.broadcast_to(prior, visits.shape), visits)
    so_far = jnp.arange(1, config.simulations + 1)[:, None]

    def by_prior(x: Float[Array, "N L"]) -> Float[Array, "2 N"]:
        return jnp.mean(x.reshape(x.shape[0], 2, -1), axis=2).T

    return Course(
        by_prior(jnp.cumsum(errors.whole, axis=0) / so_far),
        by_prior(jnp.cumsum(errors.path, axis=0) / so_far),
        by_prior(tv),
        by_prior(kl),
    )


def regularisation(
    prior: Float[Array, "*batch A"], visits: Float[Array, "*batch A"]
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """TV[pi, pi_hat] and KL[pi, pi_hat] between a prior and smoothed visit counts (Section 4).

    pi_hat(a) = (1 + N(a)) / (A + sum N).
    """
    actions = visits.shape[-1]
    smoothed = (1.0 + visits) / (actions + jnp.sum(visits, axis=-1, keepdims=True))
    total_variation = 0.5 * jnp.sum(jnp.abs(prior - smoothed), axis=-1)
    divergence = jnp.sum(jax.scipy.special.rel_entr(prior, smoothed), axis=-1)
    return total_variation, divergence
