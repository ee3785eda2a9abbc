"""A network of one's own: h, g and f without hidden layers.

muscope study cart-pole --network.kind examples/my_net.py:linear
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from muscope.agent import MuZero, Support


class Dynamics(eqx.Module):
    state: eqx.nn.Linear
    reward: eqx.nn.Linear

    def __call__(self, z, action):
        x = jnp.concatenate([z, jax.nn.one_hot(action, self.reward.in_features - z.size)])
        return jnp.tanh(self.state(x)), self.reward(x)


class Predictor(eqx.Module):
    policy: eqx.nn.Linear
    value: eqx.nn.Linear

    def __call__(self, z):
        return self.policy(z), self.value(z)


def linear(config, spec, key):
    """The settings, the environment's sizes and a key to an untrained agent."""
    inputs, actions, z = spec.observation_shape[0], spec.num_actions, config.latent
    keys = jax.random.split(key, 5)
    layer = eqx.nn.Linear
    return MuZero(
        layer(inputs, z, key=keys[0]),
        Dynamics(
            layer(z + actions, z, key=keys[1]), layer(z + actions, config.reward_bins, key=keys[2])
        ),
        Predictor(layer(z, actions, key=keys[3]), layer(z, config.value_bins, key=keys[4])),
        Support(config.value_limit, config.value_bins),
        Support(config.reward_limit, config.reward_bins),
    )
