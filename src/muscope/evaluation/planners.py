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

from muscope.agent import Agent
from muscope.config import SearchConfig
from muscope.envs import Environment, State
from muscope.envs.base import play_out
from muscope.search import Parts, SearchResult, search

Model = Literal["learned", "true"]
LeafKind = Literal["rollout", "value"]
MODELS: tuple[Model, ...] = ("learned", "true")
PRIORS = ("policy", "uniform")
"""What guides a search: the policy network's prior, or none."""

Step = Callable[[Any, Int[Array, ""]], tuple[Any, Float[Array, ""]]]
"""A planner's model: (place, action) -> (place, reward)."""


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


def model_step(planner: Planner, environment: Environment, agent: Agent) -> Step:
    """The planner's model, learned or true."""

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
    planner: Planner,
    environment: Environment,
    agent: Agent,
    place: Any,
    actions: Int[Array, "H"],
    length: Int[Array, ""],
    discount: float,
) -> Float[Array, ""]:
    """The discounted reward of the first ``length`` of ``actions`` from a place in the planner's
    model.
    """
    index = jnp.arange(actions.shape[0])
    if planner.model == "true":
        rewards = play_out(environment, place.state, actions, length)
    else:
        _, rewards = jax.lax.scan(model_step(planner, environment, agent), place, actions)
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
            length = planner.horizon - depth
            return rollout(planner, environment, agent, node.place, actions, length, discount)
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


def doubled(states: State) -> tuple[State, Bool[Array, "L2"]]:
    """States [L, ...] twice over [2 L, ...], and which of them are the first half.

    For two ways of acting or searching side by side in one program: the policy's prior guides the
    first half, for example, and the uniform one the second.
    """
    count = jax.tree.leaves(states)[0].shape[0]
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), states)
    return twice, jnp.arange(2 * count) < count
