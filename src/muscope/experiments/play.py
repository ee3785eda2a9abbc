"""Whole episodes under a policy, many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from muscope.agent.networks import MuZero
from muscope.envs.base import Environment, State
from muscope.search import SearchConfig, behaviour_logits, learned_parts, search

GREEDY = 1e-5
"""A temperature so low that Equation 1 takes a most visited action, ties at random."""

Policy = Callable[[State, Key[Array, ""]], Int[Array, "E"]]
"""States [E, ...] and a key to actions [E]."""


class Scores(NamedTuple):
    """Results of E episodes."""

    score: Float[Array, "E"]
    """Undiscounted return."""
    length: Int[Array, "E"]
    """Steps taken."""


def play(environment: Environment, policy: Policy, episodes: int, key: Key[Array, ""]) -> Scores:
    """Play ``episodes`` fresh episodes to their end or the time limit; ``key`` is consumed."""
    reset_key, act_key = jax.random.split(key)
    state = jax.vmap(environment.reset)(jax.random.split(reset_key, episodes))

    def running(carry):
        _, scores, over = carry
        return ~jnp.all(over | (scores.length >= environment.spec.time_limit))

    def step(carry):
        state, scores, over = carry
        now = jnp.max(scores.length)
        action = policy(state, jax.random.fold_in(act_key, now))
        state, reward, terminated = jax.vmap(environment.step)(state, action)
        # A terminated state is absorbing, so its further rewards are 0 by themselves.
        scores = Scores(scores.score + reward, scores.length + ~over)
        return state, scores, over | terminated

    zeros = jnp.zeros((episodes,))
    begin = (state, Scores(zeros, zeros.astype(jnp.int32)), zeros.astype(bool))
    return jax.lax.while_loop(running, step, begin)[1]


def muzero_policy(
    environment: Environment,
    agent: MuZero,
    config: SearchConfig,
    discount: float,
    temperature: Float[Array, ""] | float,
) -> Policy:
    """pi_MuZero of Equation 1, without exploration noise."""

    def act(state: State, key: Key[Array, ""]) -> Int[Array, "E"]:
        search_key, action_key = jax.random.split(key)
        roots = jax.vmap(lambda s: agent.represent(environment.observe(s)))(state)
        found = search(learned_parts(agent), roots, search_key, config, discount)
        return jax.random.categorical(action_key, behaviour_logits(found.visits, temperature))

    return act


def prior_policy(environment: Environment, agent: MuZero) -> Policy:
    """The policy prior: a_t ~ pi_theta(. | h_theta(s_t))."""

    def act(state: State, key: Key[Array, ""]) -> Int[Array, "E"]:
        def logits(s):
            return agent.predict(agent.represent(environment.observe(s))).policy_logits

        return jax.random.categorical(key, jax.vmap(logits)(state))

    return act
