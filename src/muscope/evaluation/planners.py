"""Figure 7's planners: one search with the model, the prior and the leaf exchanged.

All eight combinations of {learned, true} model, {policy, uniform} prior and {rollout, value}
leaf run through :func:`muscope.search.search`.  A horizon H bounds every simulation: tree
depth plus rollout length is H.  With rollouts nothing lies beyond it; a value leaf bootstraps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.agent.base import Agent
from muscope.envs.base import Environment, State
from muscope.evaluation.play import Policy, prior_logits
from muscope.search import Parts, SearchConfig, SearchResult, search

Model = Literal["learned", "true"]
LeafKind = Literal["rollout", "value"]


class Planner(NamedTuple):
    """A search from true states."""

    model: Model
    """g, whose rewards alone speak (it has no termination signal), or the environment."""
    leaf: LeafKind
    """Leaves are valued by uniformly random actions in the same model up to the horizon, or
    by the value network (at true observations if the model is true; 0 past a termination)."""
    horizon: int
    """H, counted from the root."""


class Node(NamedTuple):
    """What the tree carries: a place in the model, and whether the policy guides the search."""

    place: Any
    """A latent state z, or (true state, whether it is terminal)."""
    guided: Bool[Array, ""]
    """The policy network's prior, or the uniform one.  Per lane, so that searches with and
    without the prior run side by side."""


class TruePlace(NamedTuple):
    """A node of the true model."""

    state: State
    terminated: Bool[Array, ""]


def encode(planner: Planner, environment: Environment, agent: Agent, state: State) -> Any:
    """The place in the planner's model that stands for a true state."""
    if planner.model == "true":
        return TruePlace(state, jnp.array(False))
    return agent.represent(environment.observe(state))


def model_step(
    planner: Planner, environment: Environment, agent: Agent
) -> Callable[[Any, Int[Array, ""]], tuple[Any, Float[Array, ""]]]:
    """The planner's model: (place, action) -> (place, reward)."""

    def true_step(place: TruePlace, action: Int[Array, ""]) -> tuple[TruePlace, Float[Array, ""]]:
        moved = environment.step(place.state, action)
        return TruePlace(moved.state, place.terminated | moved.terminated), moved.reward

    def learned_step(place: Any, action: Int[Array, ""]) -> tuple[Any, Float[Array, ""]]:
        return agent.step(place, action)

    return true_step if planner.model == "true" else learned_step


def random_actions(key: Key[Array, ""], horizon: int, count: int) -> Int[Array, "H"]:
    """The actions of a leaf's rollout; a rollout from depth d takes the first H - d."""
    return jax.random.randint(key, (horizon,), 0, count)


def rollout(
    step: Callable[[Any, Int[Array, ""]], tuple[Any, Float[Array, ""]]],
    place: Any,
    actions: Int[Array, "H"],
    length: Int[Array, ""],
    discount: float,
) -> Float[Array, ""]:
    """The discounted reward of the first ``length`` of ``actions`` from a place."""

    def one(place, action):
        return step(place, action)

    _, rewards = jax.lax.scan(one, place, actions)
    index = jnp.arange(actions.shape[0])
    return jnp.sum(jnp.where(index < length, rewards * discount**index, 0.0))


def planner_parts(
    planner: Planner, environment: Environment, agent: Agent, discount: float
) -> Parts:
    """The search's parts, over :class:`Node` s."""
    count = environment.spec.num_actions
    step = model_step(planner, environment, agent)

    def latent(place):
        if planner.model == "true":
            return agent.represent(environment.observe(place.state))
        return place

    def node_step(node: Node, action):
        place, reward = step(node.place, action)
        return Node(place, node.guided), reward

    def prior(node: Node):
        logits = agent.predict(latent(node.place)).policy_logits
        return jnp.where(node.guided, logits, 0.0)

    def leaf(node: Node, depth, key):
        if planner.leaf == "rollout":
            actions = random_actions(key, planner.horizon, count)
            return rollout(step, node.place, actions, planner.horizon - depth, discount)
        value = agent.predict(latent(node.place)).value
        over = node.place.terminated if planner.model == "true" else jnp.array(False)
        return jnp.where(over, 0.0, value)

    return Parts(node_step, prior, leaf)


def plan(
    planner: Planner,
    environment: Environment,
    agent: Agent,
    states: State,
    guided: Bool[Array, "L"],
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    budget: Int[Array, ""] | None = None,
) -> SearchResult:
    """Search from every one of many true states.

    Args:
        planner: model, leaf and horizon.
        environment: the true environment.
        agent: the networks.
        states: pytree of [L, ...].
        guided: per lane, the policy's prior or the uniform one.
        key: consumed.
        config: the search's settings; its ``max_depth`` becomes the planner's horizon.
        discount: gamma.
        budget: simulations, if fewer than ``config.simulations``.

    """
    places = jax.vmap(lambda s: encode(planner, environment, agent, s))(states)
    return search(
        planner_parts(planner, environment, agent, discount),
        Node(places, guided),
        key,
        replace(config, max_depth=planner.horizon),
        discount,
        budget=budget,
    )


def greedy(visits: Float[Array, "L A"], key: Key[Array, ""]) -> Int[Array, "L"]:
    """A most visited action, ties at random; ``key`` is consumed."""
    tie = jax.random.uniform(key, visits.shape)
    best = visits == jnp.max(visits, axis=-1, keepdims=True)
    return jnp.argmax(jnp.where(best, 1.0 + tie, 0.0), axis=-1)


def planner_policy(
    planner: Planner,
    environment: Environment,
    agent: Agent,
    guided: Bool[Array, "E"],
    config: SearchConfig,
    discount: float,
    budget: Int[Array, ""] | None = None,
) -> Policy:
    """Act greedily by visits; lane e uses the policy's prior iff ``guided[e]``."""

    def act(states: State, key: Key[Array, ""]) -> Int[Array, "E"]:
        search_key, tie_key = jax.random.split(key)
        found = plan(
            planner,
            environment,
            agent,
            states,
            guided,
            search_key,
            config,
            discount,
            budget=budget,
        )
        return greedy(found.visits, tie_key)

    return act


def greedy_prior_policy(environment: Environment, agent: Agent) -> Policy:
    """The policy prior's most likely action, ties at random."""

    def act(states: State, key: Key[Array, ""]) -> Int[Array, "E"]:
        return greedy(prior_logits(environment, agent, states), key)

    return act


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
        v = rollout(true_step, pair.true, actions, length, discount)
        v_hat = rollout(learned_step, pair.latent, actions, length, discount)
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
    """The learned model's search from true states, with :class:`TrajectoryError` s as its trace."""

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
