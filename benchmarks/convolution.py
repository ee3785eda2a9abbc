"""The gradient of a 3x3 convolution inside a compiled loop, three ways.

    python benchmarks/convolution.py [--images 64]

Forward and backward, with respect to the images and the kernel, on one device: by automatic
differentiation of XLA's convolution, with the kernel's gradient as a product of all 3x3
neighbourhoods (as muscope had it before), and by :mod:`muscope.agent.convolution`.  The least of a
few calls of ten rounds; compilation is not counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from muscope.agent.convolution import convolve

SHAPES = ((6, 32), (6, 64), (12, 32), (24, 16))  # pixels of a side, channels
ROUNDS = 10

Convolution = Callable[[Float[Array, "n n c"], Float[Array, "3 3 c c"]], Float[Array, "n n c"]]


def automatic(image: Float[Array, "n n c"], kernel: Float[Array, "3 3 c c"]):
    """XLA's, with JAX's derivatives."""
    return jax.lax.conv_general_dilated(
        image[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


@jax.custom_jvp
def by_product(image: Float[Array, "n n c"], kernel: Float[Array, "3 3 c c"]):
    """The kernel's gradient as a product of all neighbourhoods, the image's as a convolution."""
    return automatic(image, kernel)


@by_product.defjvp
def _tangent(primals, tangents):
    (image, kernel), (image_dot, kernel_dot) = primals, tangents
    size, _, channels = image.shape
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    shifts = [padded[i : i + size, j : j + size] for i in range(3) for j in range(3)]
    through_kernel = jnp.concatenate(shifts, axis=-1) @ kernel_dot.reshape(-1, channels)
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    back = jax.linear_transpose(lambda given: automatic(given, turned), image)
    return automatic(image, kernel), back(image_dot)[0] + through_kernel


def milliseconds(convolution: Convolution, size: int, channels: int, images: int) -> float:
    """Of one round."""
    given = jax.random.normal(jax.random.key(0), (images, size, size, channels))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, channels))

    def energy(given, kernel):
        return jnp.sum(jax.vmap(lambda image: convolution(image, kernel))(given) ** 2)

    def body(carry, _):
        slopes = jax.grad(energy, (0, 1))(*carry)
        return jax.tree.map(lambda x, slope: x - 1e-9 * slope, carry, slopes), None

    loop = jax.jit(lambda *carry: jax.lax.scan(body, carry, None, length=ROUNDS)[0])
    jax.block_until_ready(loop(given, kernel))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(loop(given, kernel))
        times.append(time.perf_counter() - start)
    return 1e3 * min(times) / ROUNDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    images = parser.parse_args().images
    ways = (automatic, by_product, convolve)
    print("image, channels: ms by automatic differentiation, by product, ours; ratios to ours")
    for size, channels in SHAPES:
        took = [milliseconds(way, size, channels, images) for way in ways]
        times = ", ".join(f"{ms / took[-1]:.1f}" for ms in took[:-1])
        shown = ", ".join(f"{ms:.2f}" for ms in took)
        print(f"{size}x{size}, {channels}: {shown}; {times}", flush=True)


if __name__ == "__main__":
    main()
