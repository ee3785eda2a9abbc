"""The search against mctx's ``muzero_policy``, and against the bare network calls.

    python benchmarks/search.py [--simulations 50] [--width 64] [--repeats 20] [--before PATH]

One run times four programs in turn, so that a drift of the machine's speed falls on all of
them: mctx; muscope under mctx's settings (normalisation by parent and siblings, no noise),
whose visit counts must equal mctx's; muscope under its own settings (tree-wide
normalisation, ties broken at random); and N applications of the network alone, the floor
of any search.  Both searches call the same network.  Times are medians in milliseconds,
ratios are medians of ratios within a turn; compilation is not timed.

``--before PATH`` times an older revision's search (``PATH/muscope``) in the same turns instead,
under both settings: what a change costs, with the quartiles of the ratio before / now, where
below 1 is slower now.  Each turn takes the two in the other order, and on CPU it is the
process's own time that counts (all its threads'), which other work on the machine disturbs least.
Whether visits, q and value are equal in every bit stands in the last column.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx
import numpy as np

from muscope.agent import MuZero, build
from muscope.config import NetworkConfig, SearchConfig
from muscope.envs.base import Spec
from muscope.search import learned_parts, search

DISCOUNT = 0.997
ACTIONS = 2
KEY = jax.random.key(0)
SIZES = ((1, 16), (1, 64), (1, 256), (1, 1024), (30, 32))
"""Agents, and roots of each."""


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


def with_muscope(config: SearchConfig, whole: bool = False) -> Callable:
    """The visit counts, or visits, q and value."""

    def run(agent, roots):
        result = search(learned_parts(agent), roots, KEY, config, DISCOUNT)
        return result[:3] if whole else result.visits

    return run


def with_older(path: str, config: SearchConfig) -> Callable:
    """The search of the revision in ``path``; all of the result."""
    older = older_search(path)
    settings = older.SearchConfig(**dataclasses.asdict(config))
    return lambda agent, roots: older.search(
        older.learned_parts(agent), roots, KEY, settings, DISCOUNT
    )[:3]


def older_search(path: str) -> Any:
    """``muscope.search`` as it stands in another source folder, beside the one imported here."""
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_muscope(name)}
    sys.path.insert(0, path)
    try:
        older = importlib.import_module("muscope.search")
        assert (older.__file__ or "").startswith(path), older.__file__
        return older
    finally:
        sys.path.remove(path)
        for name in filter(_is_muscope, list(sys.modules)):
            del sys.modules[name]
        sys.modules.update(ours)


def _is_muscope(name: str) -> bool:
    return name.split(".")[0] == "muscope"


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
    programs: Mapping[str, Callable],
    arguments: tuple,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each program, taken in turn, every other turn backwards."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(repeats + 1):
        for name in list(programs)[:: 1 if turn % 2 else -1]:
            begin = clock()
            jax.block_until_ready(programs[name](*arguments))
            if turn:  # The first turn warms up.
                times[name].append(clock() - begin)
    return times


def ratios(times: dict[str, list[float]], over: str, under: str) -> list[float]:
    """Time of one program over that of another, turn by turn."""
    return [x / y for x, y in zip(times[over], times[under], strict=True)]


def cases(
    width: int, sizes: Sequence[tuple[int, int]] = SIZES
) -> Iterator[tuple[str, Callable, tuple]]:
    """How many roots, how a program of one agent is compiled for them, and its arguments."""
    for agents, batch in sizes:
        make = jax.vmap(lambda k: random_agent(k, width))
        population = make(jax.random.split(KEY, agents))
        observations = jax.random.normal(jax.random.key(1), (agents, batch, 4))
        roots = jax.vmap(lambda a, o: jax.vmap(a.represent)(o))(population, observations)
        if agents == 1:
            yield str(batch), jax.jit, jax.tree.map(lambda x: x[0], (population, roots))
        else:
            yield f"{agents} x {batch}", lambda f: jax.jit(jax.vmap(f)), (population, roots)


class Row(NamedTuple):
    """One size of a search, measured; ratios are medians of ratios within a turn."""

    roots: str
    ms: dict[str, float]
    """By program: mctx, muscope, own settings, network."""
    over_mctx: float
    """Time of mctx over that of muscope."""
    over_network: float
    """Time of muscope over that of the network alone."""
    same: float
    """Share of the roots with mctx's visit counts."""


def like_mctx(simulations: int) -> SearchConfig:
    """Settings that make muscope's search mctx's."""
    return SearchConfig(
        simulations=simulations,
        normalisation="siblings",
        unvisited="minimum",
        count_node=True,
        range_floor=1e-8,
        tie_noise=0.0,
    )


def compare(
    simulations: int, width: int, repeats: int, sizes: Sequence[tuple[int, int]] = SIZES
) -> Iterator[Row]:
    """Time mctx, muscope and the network."""
    single = {
        "mctx": with_mctx(simulations),
        "muscope": with_muscope(like_mctx(simulations)),
        "own settings": with_muscope(SearchConfig(simulations=simulations)),
        "network": network_alone(simulations),
    }
    for name, compiled, arguments in cases(width, sizes):
        programs = {program: compiled(f) for program, f in single.items()}
        visits = [np.asarray(programs[program](*arguments)) for program in ("mctx", "muscope")]
        times = measure(programs, arguments, repeats)
        yield Row(
            roots=name,
            ms={program: 1e3 * statistics.median(t) for program, t in times.items()},
            over_mctx=statistics.median(ratios(times, "mctx", "muscope")),
            over_network=statistics.median(ratios(times, "muscope", "network")),
            same=float((visits[0] == visits[1]).all(-1).mean()),
        )


def against_mctx(simulations: int, width: int, repeats: int) -> None:
    """Print the table of mctx, muscope and the network."""
    print(
        f"{'roots':>12} {'mctx':>9} {'muscope':>9} {'own set.':>9} {'network':>9} "
        f"{'mctx/muscope':>13} {'muscope/network':>16} {'same visits':>12}"
    )
    for row in compare(simulations, width, repeats):
        ms = row.ms
        print(
            f"{row.roots:>12} {ms['mctx']:9.2f} {ms['muscope']:9.2f} {ms['own settings']:9.2f} "
            f"{ms['network']:9.2f} {row.over_mctx:13.1f} {row.over_network:16.1f} {row.same:12.1%}",
            flush=True,
        )


def against_older(path: str, simulations: int, width: int, repeats: int) -> None:
    """Print the table of this revision and the one in ``path``."""
    settings = {"as mctx": like_mctx(simulations), "own": SearchConfig(simulations=simulations)}
    on_cpu = jax.devices()[0].platform == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    print(f"before: {path}; {'processor time' if on_cpu else 'wall time'}")
    print(
        f"{'roots':>12} {'settings':>12} {'before':>9} {'now':>9} {'before/now':>11} "
        f"{'quartiles':>14} {'same bits':>10}"
    )
    for name, compiled, arguments in cases(width):
        for label, config in settings.items():
            programs = {
                "before": compiled(with_older(path, config)),
                "now": compiled(with_muscope(config, whole=True)),
            }
            results = [jax.device_get(program(*arguments)) for program in programs.values()]
            pairs = zip(*results, strict=True)
            same = all(before.tobytes() == now.tobytes() for before, now in pairs)
            times = measure(programs, arguments, repeats, clock)
            ms = {program: 1e3 * statistics.median(t) for program, t in times.items()}
            low, middle, high = statistics.quantiles(ratios(times, "before", "now"), n=4)
            print(
                f"{name:>12} {label:>12} {ms['before']:9.2f} {ms['now']:9.2f} {middle:11.3f} "
                f"{f'{low:.3f} {high:.3f}':>14} {'yes' if same else 'NO':>10}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=50)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--before", help="a source folder that holds an older muscope")
    options = parser.parse_args()
    n, width, repeats = options.simulations, options.width, options.repeats
    device = jax.devices()[0]
    print(f"{device.platform} {device.device_kind}, {platform.machine()}, JAX {jax.__version__}")
    print(f"{n} simulations, {ACTIONS} actions, {width}-wide MLP; milliseconds, medians")
    if options.before:
        against_older(options.before, n, width, repeats)
    else:
        against_mctx(n, width, repeats)


if __name__ == "__main__":
    main()
