"""Rates of this machine, measured with tiny programs of a run's own networks and environment."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from muscope import envs, runtime
from muscope.agent import networks
from muscope.config import Config
from muscope.experiments.cost import seconds_per_given, simulated
from muscope.experiments.lab import group_size
from muscope.forecast.parts import Runs, form, networks_of, random_play, sizes, updating
from muscope.forecast.rates import Compiling, Rate, Rates
from muscope.work import Kind

SECONDS = 40
"""After which nothing further is compiled; what is begun is ended."""
LONG_ENOUGH = 0.2  # s of a timing
LEAST = 1e-6  # s of a difference of timings
FEW, MANY, MANY_IN_TURN = 16, 512, 64
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
        """Of one call, the least of a few if it is short."""
        times = [_took(lambda: self.call(*arguments), self.devices)[1]]
        while len(times) < 5 and sum(times) < LONG_ENOUGH:
            times.append(_took(lambda: self.call(*arguments), self.devices)[1])
        return min(times)


def calibrated(config: Config, most: int = SECONDS) -> Rates:
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
        agents = group_size(block, config.evaluate.agents_at_once)
        self.mesh = runtime.agents_mesh(agents)
        # Agents in turn are told from one of them.
        self.agents = self.mesh.size if self.in_turn else agents
        self.on_host = simulated(self.environment) is not None
        self.many = MANY_IN_TURN if self.in_turn else MANY
        self.of: dict[Kind, Rate] = {}
        self.first_use: dict[Kind, Compiling] = {}
        self.longest, self.given = 0, 1.0
        self.sizes, self.form = sizes(config, self.environment), form(config, self.environment)

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
            self.given,
            self.in_turn,
            self.longest,
        )

    def _compiled(
        self, of_one: Callable[..., Any], *shared: Any, per_agent: Sequence[Any] = ()
    ) -> Compiled:
        """A program of one agent for all, compiled anew."""
        own = (jax.random.split(jax.random.key(0), self.agents), *per_agent)

        def lowered() -> Any:
            mapped: Any = runtime.map_agents(of_one, self.mesh, len(own), in_turn=self.in_turn)
            return mapped.lower(*own, *shared)

        first = lowered()
        _, tracing = _took(lowered)  # Again: some things JAX traces once in a process.
        program, compiling = _took(first.compile, runtime.cores())
        made = Compiled(lambda *shared: program(*own, *shared), tracing, compiling, self.mesh.size)
        made.seconds(*shared)  # The first call is slower.
        return made

    def _filled(self, described: Any, *lanes: int) -> Any:
        """Arrays of small numbers for all agents, [agents, lanes, ...]."""
        rng = np.random.default_rng(0)
        return jax.tree.map(
            lambda x: jnp.asarray(
                0.1 * rng.standard_normal((self.agents, *lanes, *x.shape)), x.dtype
            ),
            described,
        )

    def _shares(self, made: Compiled, places: dict[Kind, int]) -> None:
        """Share a program's first use among its places by their equations."""
        weights = {kind: count * self.sizes[kind].equations for kind, count in places.items()}
        for kind, weight in weights.items():
            share = weight / sum(weights.values()) / places[kind]
            self.first_use[kind] = Compiling(made.tracing * share, made.compiling * share)

    def _networks(self) -> None:
        kinds: tuple[Kind, ...] = ("encoding", "model", "prediction", "simulation")
        found: dict[int, dict[str, float]] = {}
        for lanes in (FEW, self.many):
            if lanes != FEW and time.perf_counter() > self.until:
                break
            of_one = networks_of(self.config, self.environment, lanes)
            seen = jax.ShapeDtypeStruct(self.environment.spec.observation_shape, jnp.float32)
            given = (self._filled(self.form), self._filled(seen, lanes))
            made = self._compiled(_anew(of_one), _whole(Runs()), per_agent=given)
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
        for lanes in (MANY_IN_TURN, MANY):
            made = self._compiled(_anew(random_play(environment, lanes)), *_ints(1, 1))
            played = made.call(*_ints(1, limit))
            lengths, count = np.asarray(played.lengths).reshape(-1, lanes), lanes * together
            moves, alone = max(1, int(lengths.max())), made.seconds(*_ints(1, 0))
            took = max(made.seconds(*_ints(1, limit)) - alone, LEAST)
            times.append((count, took / moves))
            resets.append((count, max(made.seconds(*_ints(17, 0)) - alone, LEAST) / 16))
            if lanes == MANY_IN_TURN:
                self._shares(made, {"environment": 1, "reset": 1})
                self.longest = int(lengths[:, : self.config.evaluate.episodes].max())
            if made.compiling > SLOW or time.perf_counter() > self.until:
                break
        self.of["reset"] = _line(resets)
        self.of["environment"] = _line(times)
        if len(times) == 1:
            most = max(1, int(lengths.min()))
            early = max(made.seconds(*_ints(1, most)) - alone, LEAST)
            late = float(np.maximum(lengths - most, 0).sum()) / self.mesh.size
            self.of["environment"] = _early_and_late(
                Half(most, most * count, early), Half(moves - most, late, took - early)
            )

    def _host(self, limit: int, lanes: int) -> None:
        environment = self.environment
        program = random_play(environment, lanes)
        key, jitted = jax.random.key(0), jax.jit(_anew(program))
        lowered, tracing = _took(lambda: jitted.lower(key, *_ints(1, 1)))
        call, compiling = _took(lowered.compile, runtime.cores())
        self._shares(Compiled(call, tracing, compiling, 1), {"environment": 1, "reset": 1})
        jax.block_until_ready(call(key, *_ints(1, 1)))
        lengths = jax.block_until_ready(call(key, *_ints(1, limit))).lengths
        # Only while all games go on are all workers busy, as they are when an experiment steps
        # many lanes; and no other seed has its steps in the simulator's memory.
        begin = time.perf_counter()  # Workers have processes of their own.
        played = jax.block_until_ready(call(jax.random.key(1), *_ints(1, max(1, lengths.min()))))
        took = time.perf_counter() - begin
        each = took / int(played.lengths.sum())
        self.of |= {"environment": Rate(0.0, each), "reset": Rate()}
        self.longest = int(lengths.max())
        middle = call(jax.random.key(1), *_ints(1, max(1, lengths.min() // 2))).state
        truth = environment if self.config.evaluate.truth == "game" else self.view
        self.given = min(1.0, seconds_per_given(truth, middle, lanes) / each)

    def _update(self) -> None:
        given = (self._filled(self.form),)
        made = self._compiled(_anew(updating(self.config)), jnp.int32(0), per_agent=given)
        self._shares(made, {"update": 1})
        each = _repeated(lambda count: made.seconds(jnp.int32(count)))
        together = 1 if self.in_turn else self.agents // self.mesh.size
        self.of["update"] = Rate(0.0, each / (self.config.train.batch_size * together))


def _took(function: Callable[[], Any], devices: int = 1) -> tuple[Any, float]:
    """What a function gives, and the seconds that it takes.

    On a CPU these are the process's own, so that what else runs on the machine counts little.
    Those of this thread are one after the other; the others' are shared by ``devices`` threads.
    """
    if jax.default_backend() != "cpu":
        begin = time.perf_counter()
        return jax.block_until_ready(function()), time.perf_counter() - begin
    own, all_ = time.thread_time(), time.process_time()
    made = jax.block_until_ready(function())
    own, all_ = time.thread_time() - own, time.process_time() - all_
    return made, own + (all_ - own) / devices


def _each(made: Compiled, kind: str, config: Config) -> float:
    most = config.search.simulations if kind == "simulation" else 0
    return _repeated(lambda count: made.seconds(_whole(Runs(**{kind: count}))), most)


def _repeated(seconds: Callable[[int], float], most: int = 0) -> float:
    """Seconds of one of many repetitions, their number raised until it takes long enough.

    Held against one repetition rather than none, if there may be more: a call that does anything
    asks the system for its working memory once.
    """
    least = 0 if most else 1
    nothing = min(seconds(least), seconds(least))
    count = most or 1
    while True:
        took = seconds(least + count) - nothing
        if took >= LONG_ENOUGH or most or count >= 1 << 20:
            break
        count *= 8 if took < LONG_ENOUGH / 16 else 2
    again = [seconds(least + count) - nothing for _ in range(4 if most else 2)]
    return max(min(took, *again), LEAST) / count


def _line(times: list[tuple[int, float]]) -> Rate:
    """Of calls with some lanes; without a second number of them all time is the lanes'."""
    (few, quick), *more = times
    if not more:
        return Rate(0.0, quick / few)
    many, slow = more[0]
    lane = max(slow - quick, 0.0) / (many - few) if many > few else quick / few
    return Rate(max(quick - few * lane, 0.0), lane)


class Half(NamedTuple):
    """Some moves of random play."""

    calls: int
    lanes: float
    """Whose games still go on, of all calls together."""
    seconds: float


def _early_and_late(early: Half, late: Half) -> Rate:
    """Of an environment that is slow to compile, from one program: first all games go on, then
    fewer and fewer, and those that are over are taken to cost nothing.
    """
    even = Rate(0.0, (early.seconds + late.seconds) / (early.lanes + late.lanes))
    split = early.calls * late.lanes - late.calls * early.lanes
    if split == 0:
        return even
    call = (early.seconds * late.lanes - late.seconds * early.lanes) / split
    lane = (early.calls * late.seconds - late.calls * early.seconds) / split
    return Rate(call, lane) if min(call, lane) >= 0 else even


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
