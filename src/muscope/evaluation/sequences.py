"""Every action sequence of a length: how likely a policy is to take it, how wrong a model is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.agent import Agent
from muscope.config import SearchConfig
from muscope.envs import Environment, State
from muscope.evaluation.value_error import (
    Rewards,
    constant,
    predicted_rewards,
    sequence_error,
    split_at_the_end,
    values,
)
from muscope.search import behaviour_logits, learned_parts, search

AT_ONCE = 2048
"""Searches done together, which bounds the memory."""


def all_sequences(actions: int, horizon: int) -> Int[np.ndarray, "S h"]:
    """All A^h action sequences, in the order of their base-A numbers."""
    return np.indices((actions,) * horizon).reshape(horizon, -1).T.astype(np.int32)


class EverySequence(NamedTuple):
    """All S = A^h sequences from M states, scored at horizon h.

    Errors are the columns of their names in the table ``figure4``, whose meanings stand in its
    schema (``docs/tables.md``).
    """

    log_probability: Float[Array, "M S"]
    """Logarithm of Equation 6."""
    error: Float[Array, "M S"]
    alive_error: Float[Array, "M S"]
    ended_error: Float[Array, "M S"]
    average_reward_error: Float[Array, "M S"]
    value: Float[Array, "M S"]
    """The true value v, Equation 3."""


class TrueTree(NamedTuple):
    """All S = A^h sequences from one state in the true environment, n inner nodes."""

    nodes: State
    """Pytree of [n, ...]: the states at the prefixes shorter than h, breadth first."""
    reward: Float[Array, "S h"]
    ended: Bool[Array, "S h"]
    """As in :class:`muscope.evaluation.value_error.TruePath`."""


def true_tree(environment: Environment, state: State, horizon: int) -> TrueTree:
    """Step every prefix once, rather than every sequence from its beginning.

    Node by node, because an environment's step may take long to compile and so stands here once;
    that takes n steps one after the other instead of h.  The children of node i are
    A i + 1 .. A i + A; those of the last level are no inner nodes and their states are dropped.
    """
    actions = environment.spec.num_actions
    inner = sum(actions**depth for depth in range(horizon))

    def room(first: Array, count: int = actions * inner + 1) -> Array:
        first = jnp.asarray(first)
        return jnp.zeros((count, *first.shape), first.dtype).at[0].set(first)

    def expand(i: Int[Array, ""], carry: tuple[State, Array, Array]) -> tuple[State, Array, Array]:
        nodes, reward, over = carry
        here = jax.tree.map(lambda x: x[i], nodes)
        moved = jax.vmap(lambda a: environment.step(here, a))(jnp.arange(actions))

        children = actions * i + 1 + jnp.arange(actions)

        def write(rows: Array, new: Array) -> Array:
            return rows.at[children].set(new, mode="drop")

        return (
            jax.tree.map(write, nodes, moved.state),
            write(reward, moved.reward),
            write(over, over[i] | moved.terminated),
        )

    begin = (
        jax.tree.map(lambda x: room(x, inner), state),
        room(jnp.zeros(())),
        room(jnp.array(False)),
    )
    nodes, reward, over = jax.lax.fori_loop(0, inner, expand, begin)
    prefix = prefix_of(actions, horizon)
    child = actions * prefix + 1 + all_sequences(actions, horizon)
    return TrueTree(nodes, reward[child], over[prefix])


def prefix_of(actions: int, horizon: int) -> Int[np.ndarray, "S h"]:
    """The inner node (numbered as in :class:`TrueTree`) that each sequence is at, per step."""
    first = np.cumsum([0, *(actions**d for d in range(horizon - 1))])
    number = np.arange(actions**horizon)[:, None]
    return first + number // actions ** (horizon - np.arange(horizon))


def sequence_log_probabilities(
    log_policy: Float[Array, "n A"], actions: int, horizon: int
) -> Float[Array, "S"]:
    """Equation 6: the product of the policy along the true states, as a sum of logarithms.

    A product of h small numbers would underflow, and sequences that differ would tie at 0.

    Args:
        log_policy: log pi(a | s) at every inner node, breadth first; minus infinity at actions
            that the search did not visit.
        actions: A.
        horizon: h.

    """
    taken = log_policy[prefix_of(actions, horizon), all_sequences(actions, horizon)]
    return jnp.sum(taken, axis=-1)


def in_parts(total: int, at_once: int = AT_ONCE) -> tuple[int, int]:
    """How many parts searches from so many states are done in, and the size of each."""
    parts = -(-total // at_once)
    return parts, -(-total // parts)


def behaviour_at(
    environment: Environment,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    temperature: Float[Array, ""] | float,
    at_once: int = AT_ONCE,
) -> Float[Array, "L A"]:
    """Log pi_MuZero (Equation 1) at every one of many states, with one search each.

    Args:
        environment: the true environment.
        agent: whose policy it is.
        states: pytree of [L, ...].
        key: breaks the searches' ties; consumed.
        config: the search's settings.
        discount: gamma.
        temperature: T.
        at_once: the most roots that are searched together, which bounds the memory.

    """
    total = jax.tree.leaves(states)[0].shape[0]
    parts, size = in_parts(total, at_once)
    # The last states are searched twice to fill the last part.
    index = jnp.minimum(jnp.arange(parts * size), total - 1).reshape(parts, size)

    def search_part(inputs):
        index, key = inputs
        roots = jax.vmap(lambda i: agent.represent(environment.observe(_at(states, i))))(index)
        visits = search(learned_parts(agent), roots, key, config, discount).visits
        return jax.nn.log_softmax(behaviour_logits(visits, temperature))

    policy = jax.lax.map(search_part, (index, jax.random.split(key, parts)))
    return policy.reshape(parts * size, -1)[:total]


def score_every_sequence(
    environment: Environment,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    temperature: Float[Array, ""] | float,
    horizon: int,
) -> EverySequence:
    """Score all sequences in the agent's model and weigh them by its own pi_MuZero.

    Args:
        environment: the true environment.
        agent: whose model and policy it is; one search per inner node of the true tree.
        states: [M, ...] to start from.
        key: breaks the searches' ties; consumed.
        config: the search's settings.
        discount: gamma.
        temperature: T.
        horizon: h.

    """
    actions = environment.spec.num_actions
    sequences = jnp.asarray(all_sequences(actions, horizon))

    def rewards_from(state: State) -> tuple[Rewards, State]:
        tree = true_tree(environment, state, horizon)
        observation = environment.observe(state)
        predicted = jax.vmap(lambda a: predicted_rewards(agent, observation, a))(sequences)
        return Rewards(tree.reward, predicted, tree.ended), tree.nodes

    rewards, nodes = jax.vmap(rewards_from)(states)
    count = rewards.true.shape[0]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), nodes)
    policy = behaviour_at(environment, agent, flat, key, config, discount, temperature)
    policy = policy.reshape(count, -1, actions)
    log_probability = jax.vmap(lambda p: sequence_log_probabilities(p, actions, horizon))(policy)
    usual = jnp.mean(jnp.sum(jnp.exp(log_probability)[..., None] * rewards.true, axis=1))
    alive, over = split_at_the_end(rewards, discount)

    def error_of(rewards: Rewards) -> Float[Array, "M S"]:
        return sequence_error(rewards.true, rewards.predicted, discount)[..., -1]

    return EverySequence(
        log_probability,
        error_of(rewards),
        jnp.abs(alive[..., -1]),
        jnp.abs(over[..., -1]),
        error_of(constant(rewards, usual)),
        values(rewards.true, discount)[..., -1],
    )


RANKED = ("error", "alive_error", "ended_error", "average_reward_error")


def ranked(scored: EverySequence, seed: Sequence[int]) -> dict[str, Float[np.ndarray, "S"]]:
    """Means over states at equal rank, least likely sequence first.

    Args:
        scored: one agent's sequences, [M, S] arrays.
        seed: of the random order of sequences that are equally likely.

    Returns:
        :data:`RANKED` and ``probability``, by name.

    """
    log_probability = np.asarray(scored.log_probability, np.float64)
    tie = np.random.default_rng(seed).random(log_probability.shape)
    order = np.lexsort((tie, log_probability), axis=-1)
    columns = {name: np.asarray(getattr(scored, name), np.float64) for name in RANKED}
    columns["probability"] = np.exp(log_probability)
    return {name: np.take_along_axis(x, order, -1).mean(0) for name, x in columns.items()}


def _at(states: State, index: Int[Array, ""]) -> State:
    return jax.tree.map(lambda x: x[index], states)
