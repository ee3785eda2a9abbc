"""Whole episodes under a policy, many at once, and the states they visit."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.agent.base import Agent
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


class Visited(NamedTuple):
    """Every state in which E episodes of at most T steps took an action."""

    states: State
    """Pytree of [T, E, ...]."""
    valid: Bool[Array, "T E"]
    """Whether the episode was still going."""


def play(environment: Environment, policy: Policy, episodes: int, key: Key[Array, ""]) -> Scores:
    """Play ``episodes`` fresh episodes to their end or the time limit; ``key`` is consumed."""
    reset_key, act_key = jax.random.split(key)
    states = starts(environment, episodes, reset_key)
    return play_from(environment, policy, states, act_key)


def starts(environment: Environment, episodes: int, key: Key[Array, ""]) -> State:
    """Fresh initial states, a pytree of [E, ...]; ``key`` is consumed."""
    return jax.vmap(environment.reset)(jax.random.split(key, episodes))


def play_from(
    environment: Environment, policy: Policy, states: State, key: Key[Array, ""]
) -> Scores:
    """Play on from given states [E, ...], each to its end or the time limit."""
    return _episodes(environment, policy, states, key, keep=False)[0]


def play_and_keep(
    environment: Environment, policy: Policy, episodes: int, key: Key[Array, ""]
) -> tuple[Scores, Visited]:
    """As :func:`play`, with the states on the way."""
    reset_key, act_key = jax.random.split(key)
    begin = starts(environment, episodes, reset_key)
    scores, states = _episodes(environment, policy, begin, act_key, keep=True)
    time = jnp.arange(environment.spec.time_limit)[:, None]
    return scores, Visited(states, time < scores.length)


def _episodes(
    environment: Environment, policy: Policy, state: State, key: Key[Array, ""], keep: bool
) -> tuple[Scores, State]:
    limit = environment.spec.time_limit

    def running(carry):
        _, scores, over, _ = carry
        return ~jnp.all(over | (scores.length >= limit))

    def step(carry):
        state, scores, over, kept = carry
        now = jnp.max(scores.length)
        kept = jax.tree.map(lambda buffer, x: buffer.at[now].set(x), kept, state if keep else ())
        action = policy(state, jax.random.fold_in(key, now))
        state, reward, terminated = jax.vmap(environment.step)(state, action)
        # A terminated state is absorbing, so its further rewards are 0 by themselves.
        scores = Scores(scores.score + reward, scores.length + ~over)
        return state, scores, over | terminated, kept

    zeros = jnp.zeros(jax.tree.leaves(state)[0].shape[:1])
    room = jax.tree.map(lambda x: jnp.zeros((limit, *x.shape), x.dtype), state if keep else ())
    begin = (state, Scores(zeros, zeros.astype(jnp.int32)), zeros.astype(bool), room)
    _, scores, _, kept = jax.lax.while_loop(running, step, begin)
    return scores, kept


def draw_states(visited: Visited, count: int, key: Key[Array, ""]) -> State:
    """``count`` states drawn evenly from the pool of all episodes' states.

    Without repetition as long as the pool lasts; a smaller pool is used again from its
    beginning, every state equally often (to within one).  ``key`` is consumed.
    """
    valid = visited.valid.ravel()
    shuffled = jnp.argsort(jnp.where(valid, jax.random.uniform(key, valid.shape), jnp.inf))
    chosen = shuffled[jnp.arange(count) % jnp.sum(valid)]
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[chosen], visited.states)


def muzero_policy(
    environment: Environment,
    agent: Agent,
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


def prior_logits(environment: Environment, agent: Agent, states: State) -> Float[Array, "L A"]:
    """The policy prior pi_theta(. | h_theta(s_t)) at true states [L, ...], as logits."""

    def one(state: State) -> Float[Array, "A"]:
        return agent.predict(agent.represent(environment.observe(state))).policy_logits

    return jax.vmap(one)(states)


def prior_policy(environment: Environment, agent: Agent) -> Policy:
    """The policy prior: a_t ~ pi_theta(. | h_theta(s_t))."""

    def act(state: State, key: Key[Array, ""]) -> Int[Array, "E"]:
        return jax.random.categorical(key, prior_logits(environment, agent, state))

    return act
