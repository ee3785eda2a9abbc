"""Figure 1's loss of one sampled position, and what auxiliary losses add to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from muscope.agent.networks import MuZero
from muscope.config import LossConfig
from muscope.learning.targets import Targets
from muscope.learning.terms.base import Chosen, Unrolled


class LossTerms(NamedTuple):
    """The parts of the loss of one position, for logs and priorities."""

    policy: Float[Array, ""]
    value: Float[Array, ""]
    reward: Float[Array, ""]
    value_error: Float[Array, ""]
    """|v_t^0 - v_target|, the position's new priority before the floor."""
    added: dict[str, Float[Array, ""]]
    """Auxiliary losses by name, before their weights."""


def scale_gradient(x: Float[Array, "..."], scale: float) -> Float[Array, "..."]:
    """X in the forward pass, with its gradient scaled in the backward pass."""
    return x * scale + jax.lax.stop_gradient(x * (1.0 - scale))


def cross_entropy(
    probabilities: Float[Array, "... n"], logits: Float[Array, "... n"]
) -> Float[Array, "..."]:
    """-sum p log softmax(logits) over the last axis."""
    return -jnp.sum(probabilities * jax.nn.log_softmax(logits), axis=-1)


def loss(
    agent: MuZero,
    targets: Targets,
    config: LossConfig,
    terms: Sequence[Chosen] = (),
    parameters: Mapping[str, Any] | None = None,
) -> tuple[Float[Array, ""], LossTerms]:
    """Policy, value and reward cross-entropies over K unrolled steps, and auxiliary losses.

    The root's terms weigh 1, each unrolled step's ``unroll_weight`` / K; the gradient that
    flows back from a latent state into the dynamics that made it is scaled by
    ``gradient_scale``, that step's heads' is not (Schrittwieser et al. 2020, Appendix G: 1/K
    and 1/2).

    Args:
        agent: the parameters that are trained.
        targets: of one position, with later observations if a term reads them.
        config: weights and K.
        terms: auxiliary losses.
        parameters: their own, by name.

    """
    root = agent.represent(targets.observation)

    def unroll_step(z, action):
        following, reward_logits = agent.dynamics(z, action)
        scaled = jax.tree.map(lambda x: scale_gradient(x, config.gradient_scale), following)
        return scaled, (following, reward_logits)

    _, (latents, reward_logits) = jax.lax.scan(unroll_step, root, targets.actions)
    states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), root, latents)
    policy_logits, value_logits = jax.vmap(agent.prediction)(states)

    weight = jnp.full((config.unroll + 1,), config.unroll_weight / config.unroll).at[0].set(1.0)
    policy = jnp.sum(weight * targets.policy_mask * cross_entropy(targets.policy, policy_logits))
    value = jnp.sum(
        weight
        * targets.value_mask
        * cross_entropy(agent.value_support.encode(targets.value), value_logits)
    )
    reward = jnp.sum(
        weight[1:]
        * targets.reward_mask
        * cross_entropy(agent.reward_support.encode(targets.reward), reward_logits)
    )
    total = (
        config.policy_weight * policy + config.value_weight * value + config.reward_weight * reward
    )
    unrolled = Unrolled(agent, states, targets, weight)
    added = {term.name: term.loss((parameters or {})[term.name], unrolled) for term in terms}
    for term in terms:
        total += term.settings.weight * added[term.name]
    predicted = agent.value_support.decode(value_logits[0])
    return total, LossTerms(policy, value, reward, jnp.abs(predicted - targets.value[0]), added)
