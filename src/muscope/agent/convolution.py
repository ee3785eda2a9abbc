"""A 3x3 convolution whose gradient is fast inside a compiled loop on the CPU.

XLA's CPU backend has a fast kernel for plain forward convolutions.  The convolutions that
automatic differentiation makes of them miss it inside a loop, and all of training is one, and
are 23 to 56 times as slow.  So the derivatives are written such that what their transposes
compute is a plain forward convolution (for the input) and one matrix product (for the weights).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Image = Float[Array, "height width inputs"]
Kernel = Float[Array, "3 3 inputs outputs"]


def convolve(image: Image, kernel: Kernel, stride: int = 1) -> Float[Array, "h w outputs"]:
    """Cross-correlation with zeros beyond the border; output (i, j) is centred on input
    (stride i, stride j).
    """
    if jax.default_backend() != "cpu":
        return _forward(image, kernel, stride)
    return _convolve(image, kernel) if stride == 1 else _by_product(image, kernel, stride)


def _forward(image: Image, kernel: Kernel, stride: int = 1) -> Float[Array, "h w outputs"]:
    return jax.lax.conv_general_dilated(
        image[None],
        kernel,
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )[0]


def _by_product(image: Image, kernel: Kernel, stride: int = 1) -> Float[Array, "h w outputs"]:
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


@jax.custom_jvp
def _convolve(image: Image, kernel: Kernel) -> Float[Array, "h w outputs"]:
    return _forward(image, kernel)


@_convolve.defjvp
def _tangent(primals, tangents):
    image, kernel = primals
    image_dot, kernel_dot = tangents
    result = _forward(image, kernel)

    def back(cotangent):
        """The gradient with respect to the image, as a forward convolution."""
        return _forward(cotangent, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))

    (through_image,) = jax.linear_transpose(back, result)(image_dot)
    return result, through_image + _by_product(image, kernel_dot)
