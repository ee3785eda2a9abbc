"""Episodes of planners, and of the policy prior without planning (Figure 7)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.agent import Agent
from muscope.config import SearchConfig
from muscope.envs import Environment, State
from muscope.evaluation.planners import Planner, doubled, plan
from muscope.evaluation.play import Policy, Scores, play_from, prior_logits, prior_policy, starts

BASELINES = ("sampled", "greedy")
"""How the prior acts alone: a ~ pi_theta, or its most likely action."""


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
        result = plan(
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
        return greedy(result.visits, tie_key)

    return act


def greedy_prior_policy(environment: Environment, agent: Agent) -> Policy:
    """The policy prior's most likely action, ties at random."""

    def act(states: State, key: Key[Array, ""]) -> Int[Array, "E"]:
        return greedy(prior_logits(environment, agent, states), key)

    return act


def planned_episodes(
    planner: Planner,
    environment: Environment,
    truth: Environment,
    agent: Agent,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    budget: Int[Array, ""],
    episodes: int,
    most: int = 0,
) -> Scores:
    """Episodes of a planner under each prior, from the same starts.

    Args:
        planner: model, leaf and horizon.
        environment: the game that is played and scored.
        truth: the true model, over the same states.
        agent: the networks.
        key: consumed.
        config: the search's settings; ``simulations`` is the most of any budget.
        discount: gamma.
        budget: simulations per move.
        episodes: E, of each prior.
        most: moves after which an episode is cut; 0 for the time limit.

    Returns:
        Scores [2 E], those under the policy's prior first.

    """

    def policy(guided: Bool[Array, "E2"]) -> Policy:
        return planner_policy(planner, truth, agent, guided, config, discount, budget)

    return _play_in_halves(environment, policy, key, episodes, most)


def prior_episodes(
    environment: Environment, agent: Agent, key: Key[Array, ""], episodes: int, most: int = 0
) -> Scores:
    """Episodes of the policy prior alone, from the starts of :func:`planned_episodes`.

    Returns:
        Scores [2 E], in the order of :data:`BASELINES`.

    """
    sampled = prior_policy(environment, agent)
    best = greedy_prior_policy(environment, agent)

    def policy(is_sampled: Bool[Array, "E2"]) -> Policy:
        return lambda states, key: jnp.where(is_sampled, sampled(states, key), best(states, key))

    return _play_in_halves(environment, policy, key, episodes, most)


def _play_in_halves(
    environment: Environment,
    policy: Callable[[Bool[Array, "E2"]], Policy],
    key: Key[Array, ""],
    episodes: int,
    most: int,
) -> Scores:
    """Episodes from every start twice; the policy is told which lanes are the first half."""
    start_key, act_key = jax.random.split(key)
    begin, first = doubled(starts(environment, episodes, start_key))
    return play_from(environment, policy(first), begin, act_key, most)
