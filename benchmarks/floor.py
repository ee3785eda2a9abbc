"""What a preset's training costs at least: counted operations and bytes, and what a GPU of given
peaks would need for them.

    python benchmarks/floor.py [breakout] [--presets paper gpu quick] [--teraflops 67] \
        [--terabytes 3.35]

Nothing runs: XLA counts the operations of h, g and f for one sample, and the schedule says how
often a training step calls them, forward once and backward twice as much.  Bytes are the batch's
observations, the parameters with the optimiser's moments and their moving average, and every
layer's output, written once and read twice.  The defaults are the float32 peaks that NVIDIA gives
for an H100 SXM.  The times are floors, not predictions: they assume full use of the device and no
launch overhead.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from muscope import envs, presets
from muscope.agent import networks, standardise
from muscope.config import Config
from muscope.forecast.parts import PRODUCTS
from muscope.training.population import Population

FLOAT = 4  # bytes
COPIES = 8  # parameters, gradient, two moments and the average, of which some are written too


class Cost(NamedTuple):
    """Of one call for one sample."""

    operations: float
    outputs: float  # bytes of all layers' outputs


def cost(function: Callable[..., Any], *arguments: Any) -> Cost:
    """Counted by XLA before it optimises; layers are where the products are."""
    counted: Any = jax.jit(function).lower(*arguments).cost_analysis()
    closed = jax.make_jaxpr(function)(*arguments)
    return Cost(counted["flops"], FLOAT * _outputs(closed.jaxpr))


def _outputs(jaxpr: Any) -> float:
    """Elements that products and convolutions put out."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name in PRODUCTS:
            total += sum(np.prod(v.aval.shape) for v in equation.outvars)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += _outputs(inner)
    return total


def parts(config: Config) -> tuple[Cost, Cost, Cost, int]:
    """h, g, f and the number of parameters."""
    spec = envs.make(config.environment).spec
    agent = networks.build(config.network, spec, jax.random.key(0))
    z = jax.eval_shape(agent.represent, jnp.zeros(spec.observation_shape))
    z = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), z)
    return (
        cost(lambda x: agent.representation(x), jnp.zeros(spec.observation_shape)),
        cost(lambda z, a: agent.dynamics(z, a), z, jnp.int32(0)),
        cost(lambda z: agent.prediction(z), z),
        sum(x.size for x in jax.tree.leaves(eqx.filter(agent, standardise.trained(agent)))),
    )


class Need(NamedTuple):
    """What one training step of all agents needs."""

    update: float
    """Operations of the updates."""
    searching: float
    """Operations of the searches."""
    moved: float
    """Bytes."""
    searches: float
    """Of one agent."""
    parameters: int
    """Of one agent."""

    @property
    def operations(self) -> float:
        """All of them."""
        return self.update + self.searching


def of_a_root(config: Config) -> float:
    """Operations of one root's search in the learned model."""
    h, g, f, _ = parts(config)
    node = config.search.simulations * (g.operations + f.operations)
    return h.operations + f.operations + node


def of_a_step(config: Config) -> Need:
    """Counted from the networks and the schedule."""
    h, g, f, parameters = parts(config)
    train, unroll = config.train, config.loss.unroll
    agents, batch = train.agents, train.batch_size
    forward = [h[i] + unroll * g[i] + (unroll + 1) * f[i] for i in (0, 1)]
    roots = (train.lanes + train.reanalysed_per_round) / train.updates_per_round
    searching = roots * of_a_root(config)
    update = 3 * batch * forward[0]
    shape = envs.make(config.environment).spec.observation_shape
    moved = batch * (3 * forward[1] + np.prod(shape)) + FLOAT * COPIES * parameters
    # A search reads the parameters once per simulation and moves its latents and outputs; one
    # serves a round.
    each = config.search.simulations
    moved += each * FLOAT * parameters / train.updates_per_round
    moved += roots * each * 2 * (g.outputs + f.outputs)
    return Need(agents * update, agents * searching, float(agents * moved), roots, parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environment", nargs="?", default="breakout")
    parser.add_argument("--presets", nargs="+", default=["paper", "gpu", "quick"])
    parser.add_argument("--teraflops", type=float, default=67.0)
    parser.add_argument("--terabytes", type=float, default=3.35)
    options = parser.parse_args()
    print(f"floors at {options.teraflops:g} TFLOP/s and {options.terabytes:g} TB/s")
    for name in options.presets:
        config = presets.preset(options.environment, name)
        need, train = of_a_step(config), config.train
        agents, searches = train.agents, need.searches
        compute = need.operations / (options.teraflops * 1e12)
        memory = need.moved / (options.terabytes * 1e12)
        step = max(compute, memory)
        rate = agents * searches / step
        print(
            f"{name}: {agents} agents, {need.parameters / 1e6:.2f} M parameters, "
            f"{searches:g} searches per training step and agent of {config.search.simulations} "
            f"simulations\n"
            f"  one training step of all agents: {need.operations / 1e12:.3f} TFLOP "
            f"({need.searching / need.operations:.0%} of them in the search), "
            f"{need.moved / 1e9:.2f} GB: "
            f"at least {1e3 * compute:.2f} ms of arithmetic, {1e3 * memory:.2f} ms of memory\n"
            f"  at most {1 / step:,.0f} training steps and {rate:,.0f} searches a second; "
            f"all {train.steps:,} steps at least {train.steps * step / 60:,.1f} min\n"
            f"  replay: {Population(config).replay_bytes() / 1e9:.1f} GB"
        )


if __name__ == "__main__":
    main()
