"""The search against mctx's ``muzero_policy``, and against the bare network calls.

    python benchmarks/search.py [--simulations 50] [--width 64] [--repeats 20]

One run times four programs in turn, so that a drift of the machine's speed falls on all of
them: mctx; muscope under mctx's settings (normalisation by parent and siblings, no noise),
whose visit counts must equal mctx's; muscope under its own settings (tree-wide
normalisation, ties broken at random); and N applications of the network alone, the floor
of any search.  Both searches call the same network.  Times are medians in milliseconds,
ratios are medians of ratios within a turn; compilation is not timed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import mctx
import numpy as np

from muscope.agent import MuZero, NetworkConfig, build
from muscope.envs.base import Spec
from muscope.search import SearchConfig, learned_parts, search

DISCOUNT = 0.997
ACTIONS = 2
KEY = jax.random.key(0)


def random_agent(key: jax.Array, width: int) -> MuZero:
    """A network with non-zero heads, so that trees are not all alike."""
    spec = Spec("any", ACTIONS, (4,), 500)
    agent = build(NetworkConfig(width=width, latent=width), spec, key)
    leaves, structure = jax.tree.flatten(agent)
    keys = jax.random.split(key, len(leaves))
    noisy = [x + 0.2 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, noisy)


def with_mctx(simulations: int) -> Callable:
    def run(agent, roots):
        def recurrent(agent, key, action, z):
            following, reward = jax.vmap(agent.step)(z, action)
            p = jax.vmap(agent.predict)(following)
            out = mctx.RecurrentFnOutput(
                reward=reward,
                discount=jnp.full_like(reward, DISCOUNT),
                prior_logits=p.policy_logits,
                value=p.value,
            )
            return out, following

        p = jax.vmap(agent.predict)(roots)
        root = mctx.RootFnOutput(prior_logits=p.policy_logits, value=p.value, embedding=roots)
        out = mctx.muzero_policy(agent, KEY, root, recurrent, simulations, dirichlet_fraction=0.0)
        return out.search_tree.summary().visit_counts

    return run


def with_muscope(config: SearchConfig) -> Callable:
    return lambda agent, roots: search(learned_parts(agent), roots, KEY, config, DISCOUNT).visits


def network_alone(simulations: int) -> Callable:
    def run(agent, roots):
        def body(carry, _):
            z, total = carry
            z, reward = jax.vmap(agent.step)(z, jnp.zeros(z.shape[0], jnp.int32))
            p = jax.vmap(agent.predict)(z)
            return (z, total + reward + p.value + p.policy_logits[:, 0]), None

        start = (roots, jnp.zeros(roots.shape[0]))
        return jax.lax.scan(body, start, None, length=simulations)[0][1]

    return run


def measure(
    programs: Mapping[str, Callable], arguments: tuple, repeats: int
) -> dict[str, list[float]]:
    """Seconds of each program, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(repeats + 1):
        for name, program in programs.items():
            begin = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            if turn:  # The first turn warms up.
                times[name].append(time.perf_counter() - begin)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=50)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    n = options.simulations
    like_mctx = SearchConfig(
        simulations=n,
        normalisation="siblings",
        unvisited="minimum",
        count_node=True,
        range_floor=1e-8,
        tie_noise=0.0,
    )
    single = {
        "mctx": with_mctx(n),
        "muscope": with_muscope(like_mctx),
        "own settings": with_muscope(SearchConfig(simulations=n)),
        "network": network_alone(n),
    }
    device = jax.devices()[0]
    print(f"{device.platform} {device.device_kind}, {platform.machine()}, JAX {jax.__version__}")
    print(f"{n} simulations, {ACTIONS} actions, {options.width}-wide MLP; milliseconds, medians")
    print(
        f"{'roots':>12} {'mctx':>9} {'muscope':>9} {'own set.':>9} {'network':>9} "
        f"{'mctx/muscope':>13} {'muscope/network':>16} {'same visits':>12}"
    )
    for agents, batch in [(1, 16), (1, 64), (1, 256), (1, 1024), (30, 32)]:
        make = jax.vmap(lambda k: random_agent(k, options.width))
        population = make(jax.random.split(KEY, agents))
        observations = jax.random.normal(jax.random.key(1), (agents, batch, 4))
        roots = jax.vmap(lambda a, o: jax.vmap(a.represent)(o))(population, observations)
        if agents == 1:
            population, roots = jax.tree.map(lambda x: x[0], (population, roots))
            programs = {name: jax.jit(f) for name, f in single.items()}
        else:
            programs = {name: jax.jit(jax.vmap(f)) for name, f in single.items()}
        visits = [np.asarray(programs[name](population, roots)) for name in ("mctx", "muscope")]
        same = (visits[0] == visits[1]).all(-1).mean()
        times = measure(programs, (population, roots), options.repeats)
        ms = {name: 1e3 * statistics.median(t) for name, t in times.items()}

        def ratio(a: str, b: str, times: dict[str, list[float]] = times) -> float:
            return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))

        name = str(batch) if agents == 1 else f"{agents} x {batch}"
        print(
            f"{name:>12} {ms['mctx']:9.2f} {ms['muscope']:9.2f} {ms['own settings']:9.2f} "
            f"{ms['network']:9.2f} {ratio('mctx', 'muscope'):13.1f} "
            f"{ratio('muscope', 'network'):16.1f} {same:12.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
