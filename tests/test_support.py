"""The h-transform against its closed form in float64; the two-hot projection."""

import jax.numpy as jnp
import numpy as np
import pytest

from muscope.agent.support import EPSILON, Support, h_transform, h_transform_inverse


def h64(x):
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + EPSILON * x


def test_h_puts_the_epsilon_term_outside_the_sign():
    x = np.array([-300.0, -1.0, 0.0, 0.5, 3.0, 1e4])
    np.testing.assert_allclose(h_transform(jnp.asarray(x, jnp.float32)), h64(x), rtol=1e-6)
    assert float(h_transform(jnp.float32(-3.0))) == pytest.approx(-1.003)


def test_the_inverse_keeps_float32_precision():
    x = np.concatenate([-np.geomspace(1e-3, 1e5, 200), [0.0], np.geomspace(1e-3, 1e5, 200)])
    back = h_transform_inverse(jnp.asarray(h64(x), jnp.float32))
    np.testing.assert_allclose(back, x, rtol=3e-6, atol=1e-6)


def test_two_hot_is_a_distribution_with_the_right_mean():
    support = Support(limit=20.0, bins=41)
    x = jnp.asarray([-50.0, -0.3, 0.0, 0.2, 7.7, 333.0])
    p = support.encode(x)
    np.testing.assert_allclose(p.sum(-1), 1.0, atol=1e-5)
    assert ((p > 0).sum(-1) <= 2).all()
    np.testing.assert_allclose(p @ np.linspace(-20, 20, 41), h64(np.asarray(x)), atol=1e-4)
    np.testing.assert_allclose(support.decode(jnp.log(p + 1e-30)), x, rtol=1e-4, atol=1e-4)


def test_values_beyond_the_support_are_clipped_to_its_ends():
    support = Support(limit=2.0, bins=5)
    np.testing.assert_allclose(support.encode(jnp.asarray([1e3, -1e3])), np.eye(5)[[4, 0]])
