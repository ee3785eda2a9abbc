"""Rates of this machine, measured with tiny programs of a run's own networks and environment."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from muscope import envs, runtime
from muscope.agent import networks
from muscope.config import Config
from muscope.experiments.cost import simulated
from muscope.experiments.lab import block_size
from muscope.forecast.parts import Runs, networks_of, random_play, sizes, updating
from muscope.forecast.rates import Compiling, Rate, Rates
from muscope.work import Kind

SECONDS = 40.0
"""After which nothing further is compiled; what is begun is ended."""
LONG_ENOUGH = 0.2  # s of a timing
FEW, MANY = 16, 256
"""Lanes of the two timings that tell a call's time from a lane's."""
MOST_MOVES = 2_000
"""Of an episode of random play."""
SLOW = 4.0  # s of compilation, from which on a part is compiled for one number of lanes alone.


class Compiled(NamedTuple):
    """A program at hand, and the seconds that took."""

    call: Callable[..., Any]
    tracing: float
    compiling: float
    devices: int

    def seconds(self, *arguments: Any) -> float:
        """Of one call."""
        return _took(lambda: self.call(*arguments), self.devices)[1]


def calibrated(config: Config, most: float = SECONDS) -> Rates:
    """Rates of this machine for a run, in about so many seconds.

    Args:
        config: of the run.
        most: seconds after which nothing further is compiled.

    """
    runtime.start()
    bench = _Bench(config, time.perf_counter() + most)
    with _not_kept():
        bench.measure()
    return bench.rates()


class _Bench:
    """Programs for as many agents as experiments take at once, and what was measured."""

    def __init__(self, config: Config, until: float):
        self.config, self.until = config, until
        self.environment = envs.make(config.environment)
        self.view = envs.training_view(self.environment)
        self.in_turn = networks.in_turn(config.network, jax.default_backend())
        block = min(config.train.block or config.train.agents, config.train.agents)
        agents = block_size(block, config.evaluate.agents_at_once)
        self.mesh = runtime.agents_mesh(agents)
        # Agents in turn are told from one of them.
        self.agents = self.mesh.size if self.in_turn else agents
        self.on_host = simulated(self.environment) is not None
        self.of: dict[Kind, Rate] = {}
        self.first_use: dict[Kind, Compiling] = {}
        self.longest = 0
        self.sizes = sizes(config, self.environment)

    def measure(self) -> None:
        """Networks and trees, the environment, an update; the small before the slow."""
        self._networks()
        self._environment()
        self._update()

    def rates(self) -> Rates:
        """All that was measured."""
        return Rates(
            f"measured here, {runtime.devices()}",
            self.of,
            self.first_use,
            self.mesh.size,
            self.on_host,
            self.in_turn,
            self.longest,
        )

    def _compiled(self, of_one: Callable[..., Any], *shared: Any) -> Compiled:
        """A program of one agent for all, compiled anew."""
        mapped = runtime.map_agents(of_one, self.mesh, per_agent=1, in_turn=self.in_turn)
        lowered, tracing = _took(lambda: mapped.lower(self._keys(), *shared))
        program, compiling = _took(lowered.compile)
        made = Compiled(
            lambda *shared: program(self._keys(), *shared), tracing, compiling, self.mesh.size
        )
        made.seconds(*shared)  # The first call is slower.
        return made

    def _keys(self) -> Any:
        return jax.random.split(jax.random.key(0), self.agents)

    def _shares(self, made: Compiled, places: dict[Kind, int]) -> None:
        """Share a program's first use among its places by their equations."""
        weights = {kind: count * self.sizes[kind].equations for kind, count in places.items()}
        for kind, weight in weights.items():
            share = weight / sum(weights.values()) / places[kind]
            self.first_use[kind] = Compiling(made.tracing * share, made.compiling * share)

    def _networks(self) -> None:
        kinds: tuple[Kind, ...] = ("encoding", "model", "prediction", "simulation")
        found: dict[int, dict[str, float]] = {}
        for lanes in (FEW, MANY):
            if lanes == MANY and time.perf_counter() > self.until:
                break
            of_one = networks_of(self.config, self.environment, lanes)
            made = self._compiled(_anew(of_one), _whole(Runs()))
            found[lanes] = {kind: _each(made, kind, self.config) for kind in kinds}
            if lanes == FEW:
                self._shares(made, {"encoding": 2, "model": 1, "prediction": 1, "simulation": 1})
        together = 1 if self.in_turn else self.agents // self.mesh.size
        nodes = self.config.search.simulations + 1
        for kind in kinds:
            times = [(lanes * together, each[kind]) for lanes, each in found.items()]
            rate = _line(times)
            self.of[kind] = rate if kind != "simulation" else rate._replace(lane=rate.lane / nodes)

    def _environment(self) -> None:
        """A host's simulator from one device; its workers use the whole machine."""
        environment = self.environment
        limit = min(environment.spec.time_limit, MOST_MOVES)
        few = self.config.evaluate.episodes
        if self.on_host:
            self._host(limit, few)
            return
        together = self.agents // self.mesh.size
        times, resets = [], []
        for lanes in (few, MANY):
            made = self._compiled(_anew(random_play(environment, lanes)), *_ints(1, 1))
            if lanes == few:
                self._shares(made, {"environment": 1, "reset": 1})
                played = made.call(*_ints(1, limit))
                self.longest = int(played.lengths.max())
            moves = max(1, int(jnp.max(made.call(*_ints(1, limit)).steps)))
            alone = made.seconds(*_ints(1, 0))
            count = lanes * together
            times.append((count, max(made.seconds(*_ints(1, limit)) - alone, 0.0) / moves))
            resets.append((count, max(made.seconds(*_ints(17, 0)) - alone, 0.0) / 16))
            if made.compiling > SLOW or time.perf_counter() > self.until:
                break
        if len(times) == 1:  # Lanes that are over cost such an environment nothing.
            live = float(jnp.mean(made.call(*_ints(1, limit)).lengths)) / moves
            times = [(times[0][0] * live, times[0][1])]
        self.of |= {"environment": _line(times), "reset": _line(resets)}

    def _host(self, limit: int, lanes: int) -> None:
        program = random_play(self.environment, lanes)
        key, jitted = jax.random.key(0), jax.jit(_anew(program))
        lowered, tracing = _took(lambda: jitted.lower(key, *_ints(1, 1)))
        call, compiling = _took(lowered.compile)
        self._shares(Compiled(call, tracing, compiling, 1), {"environment": 1, "reset": 1})
        jax.block_until_ready(call(key, *_ints(1, 1)))
        begin = time.perf_counter()  # Workers have processes of their own.
        played = jax.block_until_ready(call(key, *_ints(1, limit)))
        took = time.perf_counter() - begin
        self.of |= {"environment": Rate(0.0, took / int(played.lengths.sum())), "reset": Rate()}
        self.longest = int(played.lengths.max())

    def _update(self) -> None:
        made = self._compiled(_anew(updating(self.config)), jnp.int32(0))
        self._shares(made, {"update": 1})
        each = _repeated(lambda count: made.seconds(jnp.int32(count)))
        self.of["update"] = Rate(each, 0.0)


def _took(function: Callable[[], Any], devices: int = 1) -> tuple[Any, float]:
    """What a function gives, and the seconds that it takes.

    On a CPU these are the process's own, shared by the devices that worked, so that what else runs
    on the machine counts little.
    """
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    devices = devices if jax.default_backend() == "cpu" else 1
    begin = clock()
    made = jax.block_until_ready(function())
    return made, (clock() - begin) / devices


def _each(made: Compiled, kind: str, config: Config) -> float:
    most = config.search.simulations if kind == "simulation" else 0
    return _repeated(lambda count: made.seconds(_whole(Runs(**{kind: count}))), most)


def _repeated(seconds: Callable[[int], float], most: int = 0) -> float:
    """Seconds of one of many repetitions, their number raised until it takes long enough."""
    nothing = min(seconds(0), seconds(0))
    count = most or 1
    while True:
        took = seconds(count) - nothing
        if took >= LONG_ENOUGH or most or count >= 1 << 20:
            break
        count *= 8 if took < LONG_ENOUGH / 16 else 2
    again = [seconds(count) - nothing for _ in range(4 if most else 1)]
    return max(min(took, *again), 0.0) / count


def _line(times: list[tuple[float, float]]) -> Rate:
    """Of calls with some lanes; without a second number of them all time is the lanes'."""
    (few, quick), *more = times
    if not more:
        return Rate(0.0, quick / few)
    many, slow = more[0]
    lane = max(slow - quick, 0.0) / (many - few) if many > few else quick / few
    return Rate(max(quick - few * lane, 0.0), lane)


def _whole(runs: Runs) -> Runs:
    return Runs(*map(jnp.int32, runs))


def _ints(*numbers: int) -> list[Any]:
    return [jnp.int32(number) for number in numbers]


def _anew(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as a program that no cache can hold, so that compiling it takes what it
    takes.
    """
    number = float(int.from_bytes(os.urandom(3), "little"))

    def program(key: Any, *arguments: Any) -> Any:
        drawn = jax.random.fold_in(key, jnp.int32(number))
        return function(drawn, *arguments)

    return program


@contextlib.contextmanager
def _not_kept() -> Iterator[None]:
    """Nothing that is compiled meanwhile is written to the cache, which has no use for it."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, 1e9)
    try:
        yield
    finally:
        jax.config.update(name, before)
