"""The parts of ``gpu.py``, one a process: ``_gpu_parts.py PART ROWS PEAKS [--quick]``.

Each yields rows, which are written to the file ROWS as JSON lines while it goes on.  Where the
operations are known (``floor.py`` counts them by XLA's cost analysis), a row has the rate and its
share of what a large product reaches on the card (PEAKS, from the part ``card``).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import muscope
from muscope import presets, runtime
from muscope.config import Config, SearchConfig
from muscope.host_call import host_call

Row = dict[str, Any]
Part = Callable[[bool, dict[str, float]], Iterator[Row]]
FLOAT = 4  # bytes
PRODUCT = "product, highest precision"
"""The peak that rates are held against: TFLOP/s in float32."""
STREAM = "memory"
"""GB/s"""
SLICE: dict[str, dict[str, Any]] = {
    "figure2": {},
    "figure3": {},
    "figure4": {},
    "figure7": {"checkpoints": [1_000], "simulations": [1, 16], "steps": 100},
}
"""Of the paper's study: figures, with what is smaller than in the preset."""
TINY_GAME = {"frame_size": 24, "colour": "grey", "time_limit": 40, "host": {"workers": 1}}


def seconds(call: Callable[[], Any], repeats: int = 3) -> float:
    """The least of a few calls, after one that does not count."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begin)
    return min(times)


def peak_gigabytes() -> float | None:
    """The most that this process has held of the device's memory; None if that is not told."""
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return peak and peak / 1e9


def rate(operations: float, took: float, peaks: dict[str, float]) -> Row:
    """TFLOP/s, and the share of the peak if that is known."""
    reached = operations / took / 1e12
    peak = peaks.get(PRODUCT)
    return {"tflops": reached, "share_of_peak": reached / peak if peak else None}


def card(quick: bool, peaks: dict[str, float]) -> Iterator[Row]:
    """The device, its limits, and what a launch, an answer and a call of the host cost."""
    device = jax.local_devices()[0]
    yield {
        "of": "device",
        "kind": device.device_kind,
        "platform": device.platform,
        "devices": jax.local_device_count(),
        "cores": runtime.cores(),
        "jax": jax.__version__,
        "bytes_limit": (device.memory_stats() or {}).get("bytes_limit"),
        "nvidia_smi": _nvidia_smi(),
    }
    yield from products(256 if quick else 8192)
    x = jnp.zeros((4 if quick else 1000) * 250_000)  # MB
    took = seconds(lambda: _incremented(x))
    yield {"of": STREAM, "peak": 2 * x.nbytes / took / 1e9, "unit": "GB/s"}
    yield {"of": "copy to the host", "gigabytes_per_second": x.nbytes / _copied(x) / 1e9}
    yield from launches_cost(20 if quick else 2_000)
    yield from host_calls(5 if quick else 100)


@jax.jit
def _incremented(x):
    return x + 1


def _copied(x: jax.Array) -> float:
    """Seconds that a copy to the host takes."""
    times = []
    for _ in range(3):
        y = jax.block_until_ready(_incremented(x))  # Anew: JAX keeps what it has copied.
        begin = time.perf_counter()
        np.array(y)
        times.append(time.perf_counter() - begin)
    return min(times)


def _nvidia_smi() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = "--query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm"
    done = subprocess.run([tool, query, "--format=csv"], capture_output=True, text=True)
    return done.stdout + done.stderr


def products(size: int) -> Iterator[Row]:
    """Matrix products in float32: JAX's default precision may be TF32, with 10 bits of mantissa."""
    a, b = jax.random.normal(jax.random.key(0), (2, size, size))
    exact = np.asarray(a[:8], np.float64) @ np.asarray(b, np.float64)
    for precision in ("default", "highest"):
        product = jax.jit(functools.partial(jnp.matmul, precision=precision))
        took = seconds(functools.partial(product, a, b))
        error = np.abs(np.asarray(product(a, b)[:8]) - exact).max() / np.abs(exact).max()
        yield {
            "of": f"product, {precision} precision",
            "peak": 2 * size**3 / took / 1e12,
            "unit": "TFLOP/s",
            "relative_error": float(error),
        }


def launches_cost(turns: int) -> Iterator[Row]:
    """Loops of two small products: what a launch costs, and what an answer to the host does."""
    weights = jnp.eye(64) * 0.5

    def body(x):
        return jnp.tanh(x @ weights) @ weights

    known = jax.jit(lambda x: jax.lax.fori_loop(0, turns, lambda _, y: body(y), x))
    asked = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, lambda _, y: body(y), x))
    x = jnp.ones((64, 64))
    took = seconds(lambda: known(x)) / turns
    yield {"of": "turn of a loop of 2 products", "microseconds": 1e6 * took}
    longer = seconds(lambda: asked(x, turns)) / turns
    yield {"of": "the same, the turns not known", "microseconds": 1e6 * longer}


def host_calls(turns: int) -> Iterator[Row]:
    """What a call of the host costs, with as many bytes as Breakout's of 64 lanes."""
    lanes, size = 64, 7_789 + 210 * 160
    shape = jax.ShapeDtypeStruct((size,), jnp.uint8)

    def on_host(out, x):
        out[...] = x

    def body(_, x):
        return jax.vmap(lambda row: host_call(on_host, shape, row))(x)

    loop = jax.jit(lambda x: jax.lax.fori_loop(0, turns, body, x))
    x = jnp.zeros((lanes, size), jnp.uint8)
    took = seconds(lambda: loop(x)) / turns
    yield {"of": "call of the host", "megabytes": lanes * size / 1e6, "milliseconds": 1e3 * took}


def of_population(quick: bool, agents: int) -> Config:
    """The paper's settings of Cart Pole for another number of agents; tiny if quick."""
    if quick:
        from damage import SMALL

        return dataclasses.replace(SMALL, train=dataclasses.replace(SMALL.train, agents=agents))
    config = presets.preset("cart-pole", "paper")
    return dataclasses.replace(config, train=dataclasses.replace(config.train, agents=agents))


def training(quick: bool, peaks: dict[str, float]) -> Iterator[Row]:
    """Updates a second of one agent and of populations, Cart Pole at the paper's settings."""
    from floor import of_a_step
    from training import CompileClock, measure_muscope

    clock, alone = CompileClock(), None
    for agents in (1, 2) if quick else (1, 30, 120):
        config = of_population(quick, agents)
        # So many steps that no schedule ends.
        train = dataclasses.replace(config.train, steps=1_000_000, checkpoints=())
        config = dataclasses.replace(config, train=train)
        measured = measure_muscope(config, 0.1 if quick else 10.0, clock)
        each = measured.updates_per_second / agents
        alone = alone or measured.updates_per_second
        need = of_a_step(config)
        yield {
            "agents": agents,
            "updates_per_second_each": each,
            "updates_per_second_all": measured.updates_per_second,
            "times_one_agent": measured.updates_per_second / alone,
            "compiling": measured.compiling,
            "start_up": measured.startup,
            "peak_gigabytes": peak_gigabytes(),
            "gigabytes_per_second": need.moved * each / 1e9,
            **rate(need.operations * each, 1.0, peaks),
        }


def search(quick: bool, peaks: dict[str, float]) -> Iterator[Row]:
    """The search beside mctx's and the bare network's."""
    from floor import of_a_root
    from search import compare

    simulations, width = (4, 8) if quick else (50, 64)
    sizes = ((2, 4),) if quick else ((30, 32), (1, 1024), (1, 64), (1, 8192), (30, 1024))
    config = of_population(quick, 1)
    network = dataclasses.replace(config.network, width=width, latent=width)
    settings = SearchConfig(simulations=simulations)
    root = of_a_root(dataclasses.replace(config, network=network, search=settings))
    for (agents, roots), row in zip(
        sizes, compare(simulations, width, 2 if quick else 10, sizes), strict=True
    ):
        took = row.ms["muscope"] / 1e3
        yield {**row._asdict(), **rate(agents * roots * root, took, peaks)}


def study(quick: bool, peaks: dict[str, float]) -> Iterator[Row]:
    """A slice of the paper's study of Cart Pole: training, some figures, and their precision."""
    config = of_population(quick, 2 if quick else 30)
    if not quick:
        (steps,) = SLICE["figure7"]["checkpoints"]
        train = dataclasses.replace(config.train, steps=steps, checkpoints=(0, steps))
        evaluate = dataclasses.replace(config.evaluate, checkpoints=(steps,))
        experiments = dict(config.experiments)
        for name, smaller in SLICE.items():
            experiments[name] = {**experiments.get(name, {}), **smaller}
        config = dataclasses.replace(
            config, train=train, evaluate=evaluate, experiments=experiments
        )
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        run = muscope.train(config, Path(folder, "run"))
        took = time.perf_counter() - begin
        yield {"of": "training", "seconds": took, "steps": config.train.steps}
        yield from precision(run.subject.load(config.train.steps))
        for name in ["figure3"] if quick else SLICE:
            begin = time.perf_counter()
            muscope.evaluate(run, [name])
            took = time.perf_counter() - begin
            yield {"of": name, "seconds": took, "peak_gigabytes": peak_gigabytes()}


def precision(agents: Any) -> Iterator[Row]:
    """How far ten steps of the agents' models differ between the precisions of products."""
    count = len(jax.tree.leaves(agents)[0])
    observations = 0.1 * jax.random.normal(jax.random.key(0), (count, 256, 4))
    actions = jax.random.randint(jax.random.key(1), (count, 256, 10), 0, 2)

    def unrolled(agent, observation, actions):
        def step(z, action):
            z, reward = agent.step(z, action)
            return z, (reward, agent.predict(z).value)

        return jax.lax.scan(step, agent.represent(observation), actions)[1]

    results = {}
    for name in ("default", "highest"):
        with jax.default_matmul_precision(name):
            program = jax.jit(jax.vmap(jax.vmap(unrolled, in_axes=(None, 0, 0))))
            results[name] = jax.device_get(program(agents, observations, actions))
    for what, low, high in zip(("reward", "value"), *results.values(), strict=True):
        yield {
            "of": f"predicted {what}, default against highest precision",
            "mean_difference": float(np.abs(low - high).mean()),
            "greatest_difference": float(np.abs(low - high).max()),
            "mean": float(np.abs(high).mean()),
        }


def of_breakout(quick: bool) -> Config:
    """The preset ``gpu``, or tiny pictures and networks."""
    if not quick:
        return presets.preset("breakout", "gpu")
    config = presets.preset("breakout", "quick")
    environment = dataclasses.replace(config.environment, options=TINY_GAME)
    network = dataclasses.replace(config.network, width=8, channels=4, head_channels=2)
    train = dataclasses.replace(config.train, lanes=2, batch_size=4)
    return dataclasses.replace(
        config,
        environment=environment,
        network=network,
        search=dataclasses.replace(config.search, simulations=2),
        loss=dataclasses.replace(config.loss, unroll=2, n_step=2),
        replay=dataclasses.replace(config.replay, capacity=256, start=16),
        train=train,
    )


def breakout(quick: bool, peaks: dict[str, float]) -> Iterator[Row]:
    """Rounds of one agent, the emulator, and several agents side by side and in turn."""
    import atari
    from floor import of_a_step

    config, rounds = of_breakout(quick), 2 if quick else 20
    one = dataclasses.replace(config, train=dataclasses.replace(config.train, agents=1))
    need, alone = of_a_step(one), atari.training(config, rounds)
    steps = alone.updates / alone.whole
    roots = config.train.lanes + config.train.reanalysed_per_round
    yield {
        "agents": 1,
        **alone._asdict(),
        "seconds_per_update": alone.update,
        "searches_per_second": roots / alone.acting,
        "hours_of_training": config.train.steps / steps / 3600,
        "peak_gigabytes": peak_gigabytes(),
        "update": rate(need.update, max(alone.update, 1e-9), peaks),
        "whole_training": rate(need.operations * steps, 1.0, peaks),
    }
    for workers, edges in atari.edges(config):
        yield {"workers": workers, "edges_per_second": edges}
    yield {"of": "compiled step, seconds per lane", **atari.compiled(config)}
    if quick:
        return
    small = dataclasses.replace(config, replay=dataclasses.replace(config.replay, capacity=50_000))
    for in_turn in (False, True):
        measured = atari.training(small, rounds, agents=4, in_turn=in_turn)
        over = measured.update / alone.update
        yield {"agents": 4, "in_turn": in_turn, **measured._asdict(), "over_one_agent": over}


def lander(quick: bool, peaks: dict[str, float]) -> Iterator[Row]:
    """Steps a second of Lunar Lander in random play."""
    from lander_speed import program

    for lanes in (8,) if quick else (4_096, 16_384, 65_536):
        compiling, timed = program(lanes, 2 if quick else 50, jax.local_devices()[:1])
        per_second, near = max(timed() for _ in range(3))
        yield {
            "lanes": lanes,
            "steps_per_second": per_second,
            "share_near_the_ground": near,
            "compiling": compiling,
            "peak_gigabytes": peak_gigabytes(),
        }


def launches(quick: bool, peaks: dict[str, float]) -> Iterator[Row]:
    """What a round of training launches, counted in the compiled program."""
    from launches import training as of_training

    counted, rounds = of_training(of_population(quick, 2 if quick else 30))
    loops = [loop._asdict() for loop in counted.loops]
    yield {
        "launches_per_round": counted.launches / rounds,
        "waits_per_round": counted.waits / rounds,
        "loops": loops,
    }


PARTS: dict[str, Part] = {
    part.__name__: part for part in (card, training, search, study, breakout, lander, launches)
}


def main() -> None:
    """Run one part."""
    name, rows, peaks, *rest = sys.argv[1:]
    runtime.start()
    with Path(rows).open("w") as stream:
        for row in PARTS[name](rest == ["--quick"], json.loads(peaks)):
            stream.write(json.dumps(row) + "\n")
            stream.flush()


if __name__ == "__main__":
    main()
