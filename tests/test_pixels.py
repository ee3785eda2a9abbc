"""The convolutional network, and its convolution against XLA's own."""

import dataclasses
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muscope.agent import MuZero, build, standardise
from muscope.agent.convolution import TOGETHER, convolve
from muscope.agent.pixels import Norm, framed, scaled
from muscope.agent.standardise import Standardise
from muscope.config import LossConfig, NetworkConfig
from muscope.envs import Spec
from muscope.errors import ConfigError
from muscope.learning.loss import loss
from muscope.learning.targets import Targets
from muscope.learning.terms.reconstruction import cropped

CONFIG = NetworkConfig(
    kind="resnet", width=8, channels=4, head_channels=2, value_bins=21, reward_bins=11
)


def spec(size, channels=4):
    return Spec("screen", 3, (size, size, channels), 10)


def directly(image, kernel, stride):
    """The definition, in numpy."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    rows, columns = (n // stride for n in image.shape[:2])
    out = np.zeros((rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            patch = padded[stride * i : stride * i + 3, stride * j : stride * j + 3]
            out[i, j] = np.einsum("ijc,ijco->o", patch, kernel)
    return out


def test_the_gradient_of_scaling_is_the_quotients():
    """That it is never 0 / 0 is shown by test_breakout_run's study, which diverged when it was
    compiled as it is there and extremes were taken by ``jnp.min`` and ``jnp.max``.
    """
    rng = np.random.default_rng(0)
    z, weight = rng.normal(size=(2, 4, 5, 3))
    low, high = z.argmin(), z.argmax()
    unit = (z - z.min()) / (z.max() - z.min())
    np.testing.assert_allclose(scaled(jnp.asarray(z, jnp.float32)), unit, atol=1e-6)
    expected = weight.ravel().copy()
    expected[low] += np.sum(weight * (unit - 1.0))
    expected[high] -= np.sum(weight * unit)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(weight * scaled(x))))(jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(
        gradient.ravel(), expected / (z.max() - z.min()), rtol=1e-4, atol=1e-5
    )
    equal = jax.grad(lambda x: jnp.sum(weight * scaled(x)))(jnp.zeros((4, 5, 3)))
    assert np.isfinite(equal).all()


@pytest.mark.parametrize("sides", [(), (5, 4)])
def test_the_norm_and_its_gradients_are_the_definitions(sides):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(2.0, 3.0, (2, 7, *sides, 6))
    scale, shift = rng.normal(size=(2, 6))

    def definition(x, scale, shift):
        return (x - x.mean()) / jnp.sqrt(x.var() + 1e-5) * scale + shift

    def ours(x, *own):
        blank = Norm(6)
        return eqx.tree_at(lambda n: (n.scale, n.shift), blank, own)(x)

    def looked_at(norm):
        def energy(x, *own):
            return jnp.sum(weight * jnp.tanh(jax.vmap(lambda one: norm(one, *own))(x)))

        return jax.value_and_grad(energy, (0, 1, 2))(*map(jnp.float32, (x, scale, shift)))

    one, other = looked_at(ours), looked_at(definition)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_convolution_and_its_gradients_equal_the_definition(stride):
    rng = np.random.default_rng(stride)
    images = jnp.asarray(rng.normal(size=(5, 6, 6, 2)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32)
    out = jax.vmap(lambda x: convolve(x, kernel, stride))(images)
    for image, convolved in zip(images, out, strict=True):
        np.testing.assert_allclose(convolved, directly(image, kernel, stride), atol=1e-5)

    weight = jnp.asarray(rng.normal(size=out.shape), jnp.float32)
    scalar = lambda x, k: jnp.sum(weight * jax.vmap(lambda i: convolve(i, k, stride))(x))  # noqa: E731
    by_image, by_kernel = jax.jit(jax.grad(scalar, argnums=(0, 1)))(images, kernel)
    # The map is bilinear, so differences over a whole unit are exact derivatives.
    for _ in range(5):
        at = tuple(rng.integers(n) for n in images.shape)
        change = scalar(images.at[at].add(1.0), kernel) - scalar(images, kernel)
        np.testing.assert_allclose(by_image[at], change, atol=1e-3)
        at = tuple(rng.integers(n) for n in kernel.shape)
        change = scalar(images, kernel.at[at].add(1.0)) - scalar(images, kernel)
        np.testing.assert_allclose(by_kernel[at], change, atol=1e-3)


def test_a_convolution_of_many_images_and_kernels_is_as_of_each():
    """More images than one share of a kernel's gradient, and kernels side by side, in reverse and
    forward, under nested ``vmap`` s, once and twice differentiated.
    """
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, 3, 23, 5, 4, 2)), jnp.float32)
    kernels = jnp.asarray(rng.normal(size=(2, 3, 3, 2, 3)), jnp.float32)
    assert images[0, :, :, 0, 0, 0].size > TOGETHER

    def definition(image, kernel):
        return jax.lax.conv_general_dilated(
            image[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[0]

    def agents(of_one):
        """The energy of two agents' results."""

        def energy(kernel, images):
            return jnp.sum(jnp.sin(jax.vmap(jax.vmap(lambda i: of_one(i, kernel)))(images)))

        def curved(kernel, images):
            return jnp.sum(jax.grad(energy)(kernel, images) ** 2)

        def forward(kernel, images):
            return jax.jvp(energy, (kernel, images), (kernel, images))[1]

        made = [jax.value_and_grad(f, (0, 1)) for f in (energy, curved)]
        return [jax.jit(jax.vmap(f))(kernels, images) for f in [*made, forward]]

    ours, theirs = agents(convolve), agents(definition)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3 * float(jnp.abs(other).max()))


def test_gradients_inside_a_loop_are_as_fast_as_outside():
    """Automatic differentiation's own convolutions take 25 to 56 times as long there."""
    images, kernel = jnp.ones((32, 12, 12, 16)), jnp.ones((3, 3, 16, 16))

    def gradient(kernel):
        return jax.grad(lambda k: jnp.sum(jax.vmap(lambda i: convolve(i, k))(images) ** 2))(kernel)

    def body(kernel, _):
        return 1e-9 * gradient(kernel), None

    def seconds(function):
        compiled = jax.jit(function)
        jax.block_until_ready(compiled(kernel))
        times = []
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(compiled(kernel))
            times.append(time.perf_counter() - start)
        return min(times)

    looped = seconds(lambda kernel: jax.lax.scan(body, kernel, None, length=4)[0]) / 4
    assert looped < 12 * seconds(gradient)


@pytest.mark.parametrize("size", [24, 48, 96])
def test_latents_are_6x6_and_lie_between_0_and_1(size):
    agent = build(CONFIG, spec(size), jax.random.key(0))
    image = jax.random.uniform(jax.random.key(1), (size, size, 4))
    z = agent.represent(image)
    following, reward = agent.step(z, jnp.int32(2))
    for latent in (z, following):
        assert latent.shape == (6, 6, 4)
        assert float(latent.min()) == 0
        np.testing.assert_allclose(float(latent.max()), 1, rtol=1e-6)
    prediction = agent.predict(following)
    # The last layers start at zero.
    np.testing.assert_array_equal(prediction.policy_logits, np.zeros(3))
    np.testing.assert_allclose([reward, prediction.value], 0, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "latent"),
    [((84, 84, 4), (6, 6)), ((210, 160, 3), (4, 3)), ((48, 96, 4), (3, 6)), ((17, 30, 1), (3, 4))],
)
def test_other_images_get_a_border_of_zeros(shape, latent):
    agent = build(CONFIG, Spec("screen", 3, shape, 10), jax.random.key(0))
    height, width = agent.representation.size
    assert height >= shape[0]
    assert width >= shape[1]
    assert height // latent[0] == width // latent[1] <= 64
    image = jax.random.uniform(jax.random.key(1), shape)
    z = agent.represent(image)
    following, _ = agent.step(z, jnp.int32(2))
    assert z.shape == following.shape == (*latent, 4)
    assert agent.predict(following).policy_logits.shape == (3,)
    # The same as an agent for larger images sees, whose border is in the image.
    larger = build(CONFIG, Spec("screen", 3, (height, width, shape[-1]), 10), jax.random.key(0))
    top, left = (height - shape[0]) // 2, (width - shape[1]) // 2
    seen = agent.representation.view(image)
    bordered = np.zeros((height, width, shape[-1]), np.float32)
    bordered[top : top + shape[0], left : left + shape[1]] = seen
    without = dataclasses.replace(CONFIG, standardise=False)
    larger = build(without, Spec("screen", 3, bordered.shape, 10), jax.random.key(0))
    np.testing.assert_array_equal(larger.represent(jnp.asarray(bordered)), z)
    framed_ = framed(image, height, width)
    np.testing.assert_array_equal(cropped(framed_, *shape[:2]), image)
    assert float(jnp.sum(framed_)) == pytest.approx(float(jnp.sum(image)), rel=1e-5)


@pytest.mark.parametrize("shape", [(50, 15, 4), (12, 12, 4), (84, 84), (4,)])
def test_other_observations_are_refused(shape):
    with pytest.raises(ConfigError, match="at least 16 x 16, not"):
        build(CONFIG, Spec("screen", 3, shape, 10), jax.random.key(0))


def test_different_actions_lead_to_different_latents():
    agent = build(CONFIG, spec(24), jax.random.key(0))
    z = agent.represent(jax.random.uniform(jax.random.key(1), (24, 24, 4)))
    latents = [np.asarray(agent.step(z, jnp.int32(a))[0]) for a in range(3)]
    assert all(np.abs(latents[i] - latents[j]).max() > 1e-3 for i in range(3) for j in range(i))


def test_the_papers_sizes_have_the_papers_number_of_parameters():
    config = dataclasses.replace(
        CONFIG, width=32, channels=64, head_channels=16, value_bins=601, reward_bins=601
    )
    agent = jax.eval_shape(lambda: build(config, spec(96, 12), jax.random.key(0)))
    count = sum(
        x.size
        for part, free in zip(
            jax.tree.leaves(agent, is_leaf=lambda x: isinstance(x, Standardise)),
            jax.tree.leaves(standardise.trained(agent)),
            strict=True,
        )
        if free
        for x in jax.tree.leaves(part)
    )
    assert 0.5e6 < count < 0.65e6


def test_the_loss_reaches_every_parameter():
    """With last layers away from zero, so that something flows through them."""
    agent: MuZero = build(CONFIG, spec(24), jax.random.key(0))
    agent = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), agent)
    rng = np.random.default_rng(0)
    targets = Targets(
        observation=jnp.asarray(rng.uniform(size=(24, 24, 4)), jnp.float32),
        actions=jnp.asarray(rng.integers(3, size=2), jnp.int32),
        reward=jnp.ones(2),
        reward_mask=jnp.ones(2),
        value=jnp.ones(3),
        value_mask=jnp.ones(3),
        policy=jnp.asarray(rng.dirichlet([1, 1, 1], size=3), jnp.float32),
        policy_mask=jnp.ones(3),
    )
    config = LossConfig(unroll=2, n_step=2)
    gradient = jax.jit(jax.grad(lambda agent: loss(agent, targets, config)[0]))(agent)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        name = jax.tree_util.keystr(path)
        # What is measured is not trained.
        assert (float(jnp.abs(leaf).max()) > 0) != (".view." in name), name
