"""A loss of one's own: which action led from one latent state to the next must be legible.

muscope study cart-pole --loss.terms examples/my_loss.py:TERM --terms.which_action.weight 0.5
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp

from muscope.config.base import Units
from muscope.learning.loss import cross_entropy
from muscope.learning.terms import Term, TermSettings, flat, form_of_latent


@dataclass(frozen=True)
class WhichAction(TermSettings):
    section = "terms.which_action"

    width: Units = 32
    """Units of the hidden layer of its own network."""


def initial(settings, agent, spec, key):
    """Its own network, trained beside the agent's: from two latent states to an action."""
    size = sum(x.size for x in jax.tree.leaves(form_of_latent(agent, spec)))
    return eqx.nn.MLP(2 * size, spec.num_actions, settings.width, 1, key=key)


def loss(settings, network, unrolled):
    """Of one position; unrolled.latents are z^0..z^K, [K + 1, ...]."""
    z = jax.vmap(flat)(unrolled.latents)
    logits = jax.vmap(network)(jnp.concatenate([z[:-1], z[1:]], axis=-1))
    taken = jax.nn.one_hot(unrolled.targets.actions, logits.shape[-1])
    # Position k counts where the state after k steps is one of the episode.
    return unrolled.total(cross_entropy(taken, logits))


TERM = Term("which_action", loss, WhichAction, initial)
