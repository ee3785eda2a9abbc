"""The loss and its gradient against the definition."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tabular import REWARD, perfect_agent
from test_targets import at, filled

from muscope.agent import build
from muscope.config import LossConfig, NetworkConfig
from muscope.envs.base import Spec
from muscope.learning.loss import cross_entropy, loss, scale_gradient
from muscope.learning.targets import Targets

SPEC = Spec("any", 2, (1,), 100)
AGENT = build(NetworkConfig(width=8, latent=8), SPEC, jax.random.key(0))
CONFIG = LossConfig(unroll=3, n_step=2, value_weight=0.25)


@pytest.mark.parametrize("unroll_weight", [1.0, 4.0])
def test_the_loss_is_the_weighted_sum_over_unrolled_steps(unroll_weight):
    """Root 1, unrolled steps unroll_weight / K; masks drop terms.  Recomputed step by step."""
    config = dataclasses.replace(CONFIG, unroll_weight=unroll_weight)
    targets = at(filled([1, 2, 3, 4, 5, 6, 7, 8], terminated=[1]), 0)
    leaves, structure = jax.tree.flatten(AGENT)
    agent = jax.tree.unflatten(structure, [x + 0.1 for x in leaves])
    z = agent.represent(targets.observation)
    policy = value = reward = 0.0
    for k in range(4):
        weight = 1.0 if k == 0 else unroll_weight / 3
        if k:
            z, logits = agent.dynamics(z, targets.actions[k - 1])
            target = agent.reward_support.encode(targets.reward[k - 1])
            reward += weight * targets.reward_mask[k - 1] * cross_entropy(target, logits)
        policy_logits, value_logits = agent.prediction(z)
        policy += weight * targets.policy_mask[k] * cross_entropy(targets.policy[k], policy_logits)
        target = agent.value_support.encode(targets.value[k])
        value += weight * targets.value_mask[k] * cross_entropy(target, value_logits)
    total, terms = loss(agent, targets, config)
    np.testing.assert_allclose(terms.policy, policy, rtol=1e-5)
    np.testing.assert_allclose(terms.value, value, rtol=1e-5)
    np.testing.assert_allclose(terms.reward, reward, rtol=1e-5)
    np.testing.assert_allclose(total, policy + 0.25 * value + reward, rtol=1e-5)


def test_the_new_priority_is_the_value_error_at_the_root():
    agent = perfect_agent(value=[3.0, 0, 0, 0, 0])
    targets = _tabular_targets([0, 0, 1], value=[5.0, 0, 0, 0])
    _, terms = loss(agent, targets, CONFIG)
    assert float(terms.value_error) == pytest.approx(2.0, abs=1e-2)


def _tabular_targets(actions, value):
    return Targets(
        observation=jnp.eye(5)[0],
        actions=jnp.asarray(actions, jnp.int32),
        reward=jnp.asarray([REWARD[0, 0], REWARD[1, 0], REWARD[2, 1]], jnp.float32),
        reward_mask=jnp.ones(3),
        value=jnp.asarray(value),
        value_mask=jnp.ones(4),
        policy=jnp.full((4, 2), 0.5),
        policy_mask=jnp.ones(4),
    )


def test_a_perfect_model_has_no_reward_loss_and_a_wrong_one_has():
    """Also pins the alignment: the reward of g(z_t, a_t) is r_t, not r_{t+1}."""
    targets = _tabular_targets([0, 0, 1], value=[0.0, 0, 0, 0])
    assert np.abs(REWARD[[0, 1, 2], [0, 0, 1]]).sum() > 0
    _, right = loss(perfect_agent(), targets, CONFIG)
    entropy = _entropy(perfect_agent().reward_support.encode(targets.reward)).sum() / 3
    np.testing.assert_allclose(right.reward, entropy, atol=1e-4)
    _, wrong = loss(perfect_agent(reward=REWARD[::-1]), targets, CONFIG)
    assert float(wrong.reward) > entropy + 1


def _entropy(p):
    p = np.asarray(p, np.float64)
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(-1)


def test_gradients_are_halved_on_the_way_through_the_dynamics_only():
    assert float(jax.grad(lambda x: scale_gradient(x, 0.5) ** 2)(3.0)) == pytest.approx(3.0)

    # Only the last step's policy is trained: its gradient reaches the root's latent state
    # through g twice and through one halving (z^1 is scaled on entering g, z^0 is not).
    targets = at(filled([1, 2, 3, 4, 5, 6, 7, 8]), 0)
    masked = targets._replace(
        value_mask=jnp.zeros(4),
        reward_mask=jnp.zeros(3),
        policy_mask=jnp.array([0.0, 0, 1, 0]),
    )
    leaves, structure = jax.tree.flatten(AGENT)
    agent = jax.tree.unflatten(structure, [x + 0.1 for x in leaves])

    def plain(agent):
        z = agent.represent(masked.observation)
        for k in range(2):
            z, _ = agent.dynamics(z, masked.actions[k])
        return cross_entropy(masked.policy[2], agent.prediction(z)[0]) / 3

    ours = jax.grad(lambda a: loss(a, masked, CONFIG)[0])(agent)
    unscaled = jax.grad(plain)(agent)
    for part, factor in (("representation", 0.5), ("prediction", 1.0)):
        for x, y in zip(
            jax.tree.leaves(getattr(ours, part)),
            jax.tree.leaves(getattr(unscaled, part)),
            strict=True,
        ):
            np.testing.assert_allclose(x, factor * np.asarray(y), rtol=1e-3, atol=1e-6)
