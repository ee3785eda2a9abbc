"""A 3x3 convolution whose gradient is fast inside a compiled loop on the CPU.

XLA's CPU backend has a fast kernel for plain forward convolutions.  The convolutions that
automatic differentiation makes of them miss it inside a loop, and all of training is one, and
are 25 to 56 times as slow.  So the derivatives here are plain forward convolutions as well: with
the kernel turned around for the image, with the images as channels for the kernel.  The latter
needs all images at once, where ``vmap`` shows a function one, so the two are primitives: JAX asks
them what many images are.  The derivatives of each are the other and itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

Image = Float[Array, "height width inputs"]
Images = Float[Array, "N height width inputs"]
Results = Float[Array, "N height width outputs"]
Kernel = Float[Array, "3 3 inputs outputs"]

NAME = "muscope_convolution"  # of the primitive, for who counts what a traced function computes
TOGETHER = 64  # images whose share of a kernel's gradient is one convolution; more leave the cache


def convolve(image: Image, kernel: Kernel, stride: int = 1) -> Float[Array, "h w outputs"]:
    """Cross-correlation with zeros beyond the border; output (i, j) is centred on input
    (stride i, stride j).
    """
    if jax.default_backend() != "cpu":
        return _forward(image[None], kernel, stride)[0]
    if stride == 1:
        return _convolution.bind(image[None], kernel)[0]
    return _by_product(image, kernel, stride)


def _forward(
    images: Images, kernel: Float[Array, "rows columns inputs outputs"], stride: int = 1
) -> Float[Array, "N h w outputs"]:
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _by_product(image: Image, kernel: Kernel, stride: int) -> Float[Array, "h w outputs"]:
    """The same as a matrix product with every output's 3x3 neighbourhood."""
    height, width, _ = image.shape
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    around = jnp.concatenate(
        [
            padded[i : i + height : stride, j : j + width : stride]
            for i in range(3)
            for j in range(3)
        ],
        axis=-1,
    )
    return around @ kernel.reshape(-1, kernel.shape[-1])


def _correlation(images: Images, results: Results) -> Kernel:
    """The gradient with respect to the kernel, from that with respect to the results."""
    first = len(images) % TOGETHER or TOGETHER
    parts = tuple(x[first:].reshape(-1, TOGETHER, *x.shape[1:]) for x in (images, results))
    total, _ = jax.lax.scan(
        lambda total, part: (total + _share(*part), None),
        _share(images[:first], results[:first]),
        parts,
    )
    return total


def _share(images: Images, results: Results) -> Kernel:
    """The same of a few images: a convolution whose channels they are."""
    # Without a barrier XLA moves the transpositions into the convolution, which is then a slow one.
    turned = jax.lax.optimization_barrier(
        (images.transpose(3, 1, 2, 0), results.transpose(1, 2, 0, 3))
    )
    return _forward(*turned).transpose(1, 2, 0, 3)


def _around(kernel: Kernel) -> Float[Array, "3 3 outputs inputs"]:
    """The kernel that takes gradients of results to gradients of images."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _primitive(name: str, compute: Callable[[Any, Any], Any], shape: Callable) -> Primitive:
    """A function of two arrays that is linear in each."""
    made = Primitive(name)
    made.def_impl(jax.jit(compute))
    made.def_abstract_eval(lambda x, y: x.update(shape=shape(x.shape, y.shape)))
    mlir.register_lowering(made, mlir.lower_fun(compute, multiple_results=False))
    return made


_convolution = _primitive(NAME, _forward, lambda x, k: (*x[:3], k[3]))
_kernel_gradient = _primitive(
    f"{NAME}_kernel_gradient", _correlation, lambda x, y: (3, 3, x[3], y[3])
)


def _in_turn(made: Primitive, operands, axes):
    """One call after the other."""
    size = next(x.shape[at] for x, at in zip(operands, axes, strict=True) if at is not None)
    many = [batching.bdim_at_front(x, at, size) for x, at in zip(operands, axes, strict=True)]
    return jax.lax.map(lambda pair: made.bind(*pair), tuple(many)), 0


def _many_images(operands, axes):
    """Images of several ``vmap`` s are only more images, while all have the same kernel."""
    (images, kernel), (at, at_kernel) = operands, axes
    if at_kernel is not None:
        return _in_turn(_convolution, operands, axes)
    images = jnp.moveaxis(images, at, 0)
    flat = images.reshape(-1, *images.shape[2:])
    results = _convolution.bind(flat, kernel)
    return results.reshape(*images.shape[:2], *results.shape[1:]), 0


batching.primitive_batchers[_convolution] = _many_images
batching.primitive_batchers[_kernel_gradient] = functools.partial(_in_turn, _kernel_gradient)

ad.defbilinear(
    _convolution,
    lambda results, _, kernel: _convolution.bind(results, _around(kernel)),
    lambda results, images, _: _kernel_gradient.bind(images, results),
)
ad.defbilinear(
    _kernel_gradient,
    lambda kernel, _, results: _convolution.bind(results, _around(kernel)),
    lambda kernel, images, _: _convolution.bind(images, kernel),
)
