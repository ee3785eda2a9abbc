"""Every action sequence of a length, and how likely the behaviour policy is to take it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from muscope.agent.base import Agent
from muscope.envs.base import Environment, State
from muscope.search import SearchConfig, behaviour_logits, learned_parts, search


def all_sequences(actions: int, horizon: int) -> Int[np.ndarray, "S h"]:
    """All A^h action sequences, in the order of their base-A numbers."""
    return np.indices((actions,) * horizon).reshape(horizon, -1).T.astype(np.int32)


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


def behaviour_at(
    environment: Environment,
    agent: Agent,
    states: State,
    key: Key[Array, ""],
    config: SearchConfig,
    discount: float,
    temperature: Float[Array, ""] | float,
    at_once: int = 2048,
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
    parts = -(-total // at_once)
    size = -(-total // parts)
    # The last states are searched twice to fill the last part.
    index = jnp.minimum(jnp.arange(parts * size), total - 1).reshape(parts, size)

    def one_part(inputs):
        index, key = inputs
        roots = jax.vmap(lambda i: agent.represent(environment.observe(_at(states, i))))(index)
        visits = search(learned_parts(agent), roots, key, config, discount).visits
        return jax.nn.log_softmax(behaviour_logits(visits, temperature))

    policy = jax.lax.map(one_part, (index, jax.random.split(key, parts)))
    return policy.reshape(parts * size, -1)[:total]


def _at(states: State, index: Int[Array, ""]) -> State:
    return jax.tree.map(lambda x: x[index], states)
