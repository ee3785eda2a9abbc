"""Whole episodes under a policy, many at once, and the states they visit."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from muscope.agent import Agent
from muscope.config import SearchConfig
from muscope.envs import Environment, State
from muscope.search import behaviour_logits, learned_parts, search

GREEDY = 1e-5
"""A temperature so low that Equation 1 takes a most visited action, ties at random."""

Policy = Callable[[State, Key[Array, ""]], Int[Array, "E"]]
"""States [E, ...] and a key to actions [E]."""
Behaviour = Callable[[State, Key[Array, ""]], Float[Array, "E A"]]
"""States [E, ...] and a key to the logits of what a policy does there."""


class Scores(NamedTuple):
    """Results of E episodes."""

    score: Float[Array, "E"]
    """Undiscounted return."""
    length: Int[Array, "E"]
    """Steps taken."""


class Sample(NamedTuple):
    """Up to M of the states in which episodes took an action, drawn evenly, in random order."""

    states: State
    """Pytree of [M, ...]."""
    rank: Float[Array, "M"]
    """Each state's random number, ascending; infinite where there is no state yet."""


def play(environment: Environment, policy: Policy, episodes: int, key: Key[Array, ""]) -> Scores:
    """Play ``episodes`` fresh episodes to their end or the time limit; ``key`` is consumed."""
    reset_key, act_key = jax.random.split(key)
    states = starts(environment, episodes, reset_key)
    return play_from(environment, policy, states, act_key)


def starts(environment: Environment, episodes: int, key: Key[Array, ""]) -> State:
    """Fresh initial states, a pytree of [E, ...]; ``key`` is consumed."""
    return jax.vmap(environment.reset)(jax.random.split(key, episodes))


def play_from(
    environment: Environment,
    policy: Policy,
    states: State,
    key: Key[Array, ""],
    most: int = 0,
) -> Scores:
    """Play on from given states [E, ...], each to its end, the time limit or ``most`` steps (0
    for no such bound).
    """
    limit = environment.spec.time_limit
    return _episodes(environment, policy, states, key, min(most or limit, limit))[0]


def play_and_draw(
    environment: Environment,
    policy: Policy,
    episodes: int,
    count: int,
    play_key: Key[Array, ""],
    draw_key: Key[Array, ""],
) -> tuple[Scores, State]:
    """As :func:`play`, with ``count`` states drawn evenly from the pool of all that it visits.

    Without repetition as long as the pool lasts; a smaller pool is used again from its
    beginning, every state equally often (to within one).  No more than ``count`` states are
    held at any time.
    """
    reset_key, act_key = jax.random.split(play_key)
    begin = starts(environment, episodes, reset_key)
    limit = environment.spec.time_limit
    ranks = jax.random.uniform(draw_key, (limit, episodes))
    scores, drawn = _episodes(environment, policy, begin, act_key, limit, count, ranks)
    size = jnp.minimum(jnp.sum(scores.length), count)
    return scores, jax.tree.map(lambda x: x[jnp.arange(count) % size], drawn.states)


def _episodes(
    environment: Environment,
    policy: Policy,
    state: State,
    key: Key[Array, ""],
    limit: int,
    count: int = 0,
    ranks: Float[Array, "T E"] | None = None,
) -> tuple[Scores, Sample]:
    """Episodes of at most ``limit`` steps, and the ``count`` visited states of lowest rank."""

    def running(carry):
        _, scores, over, _ = carry
        return ~jnp.all(over | (scores.length >= limit))

    def step(carry):
        state, scores, over, sample = carry
        now = jnp.max(scores.length)
        if ranks is not None:
            rank = jnp.where(over, jnp.inf, ranks[now])
            pool = jax.tree.map(lambda *x: jnp.concatenate(x), sample, Sample(state, rank))
            lowest = jnp.argsort(pool.rank)[:count]
            sample = jax.tree.map(lambda x: x[lowest], pool)
        action = policy(state, jax.random.fold_in(key, now))
        state, reward, terminated = jax.vmap(environment.step)(state, action)
        # A terminated state is absorbing, so its further rewards are 0 by themselves.
        scores = Scores(scores.score + reward, scores.length + ~over)
        return state, scores, over | terminated, sample

    zeros = jnp.zeros(jax.tree.leaves(state)[0].shape[:1])
    room = jax.tree.map(lambda x: jnp.zeros((count, *x.shape[1:]), x.dtype), state)
    nothing = Sample(room, jnp.full((count,), jnp.inf))
    begin = (state, Scores(zeros, zeros.astype(jnp.int32)), zeros.astype(bool), nothing)
    _, scores, _, sample = jax.lax.while_loop(running, step, begin)
    return scores, sample


def muzero_policy(
    environment: Environment,
    agent: Agent,
    config: SearchConfig,
    discount: float,
    temperature: Float[Array, ""] | float,
) -> Policy:
    """pi_MuZero of Equation 1, without exploration noise."""
    behaviour = muzero_behaviour(environment, agent, config, discount, temperature)

    def act(state: State, key: Key[Array, ""]) -> Int[Array, "E"]:
        search_key, action_key = jax.random.split(key)
        return jax.random.categorical(action_key, behaviour(state, search_key))

    return act


def muzero_behaviour(
    environment: Environment,
    agent: Agent,
    config: SearchConfig,
    discount: float,
    temperature: Float[Array, ""] | float,
) -> Behaviour:
    """The logits of pi_MuZero; the key breaks the search's ties."""

    def logits(state: State, key: Key[Array, ""]) -> Float[Array, "E A"]:
        roots = jax.vmap(lambda s: agent.represent(environment.observe(s)))(state)
        visits = search(learned_parts(agent), roots, key, config, discount).visits
        return behaviour_logits(visits, temperature)

    return logits


def prior_logits(environment: Environment, agent: Agent, states: State) -> Float[Array, "L A"]:
    """The policy prior pi_theta(. | h_theta(s_t)) at true states [L, ...], as logits."""

    def logits_at(state: State) -> Float[Array, "A"]:
        return agent.predict(agent.represent(environment.observe(state))).policy_logits

    return jax.vmap(logits_at)(states)


def prior_policy(
    environment: Environment, agent: Agent, temperature: Float[Array, ""] | float = 1.0
) -> Policy:
    """The policy prior: a_t ~ pi_theta(. | h_theta(s_t)), its probabilities to the power of
    1 / ``temperature`` as Equation 1's visits are.
    """

    def act(state: State, key: Key[Array, ""]) -> Int[Array, "E"]:
        return jax.random.categorical(key, prior_logits(environment, agent, state) / temperature)

    return act
