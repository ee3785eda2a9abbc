"""How many kernels a program launches, counted in what XLA compiled it to.

    python benchmarks/launches.py [--environments cart-pole breakout] [--preset quick] [--agents 30]
    python benchmarks/launches.py --lanes 256   # a step of Lunar Lander

Nothing runs.  Every instruction that computes is one launch; those of a loop count as often as it
turns, if that is known, and once if it is not.  Of a choice the longer branch counts.  On a GPU
this is what is launched (unless XLA records several as one graph); on a CPU, where other
instructions are fused, a proxy.

A loop whose turns are not known asks the device, before each turn, whether it goes on: on a GPU the
host waits for the answer.  So does a choice.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from muscope import envs, presets
from muscope.config import Config
from muscope.training.agent import AgentProgram

FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "domain"),
)
"""Instructions that launch nothing."""
HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Loop(NamedTuple):
    """One loop of a program."""

    depth: int
    """Loops around it."""
    turns: int | None
    """None: decided while it runs."""
    launches: int
    """Of one turn."""


class Count(NamedTuple):
    """What a program launches."""

    launches: int
    waits: int
    """Answers that the host waits for."""
    loops: list[Loop]
    """From the outside in."""


def count(compiled: Any) -> Count:
    """Count a compiled program, as ``jax.jit(f).lower(...).compile()`` gives it."""
    computations: dict[str, list[str]] = {}
    entry = inside = ""
    for line in compiled.as_text().splitlines():
        header = HEADER.match(line)
        if header:
            inside = header[2]
            computations[inside] = []
            entry = inside if header[1] else entry
        elif " = " in line and inside:
            computations[inside].append(line)
    return _of(entry, computations, 0)


def _of(name: str, computations: dict[str, list[str]], depth: int) -> Count:
    launches, waits, loops = 0, 0, []
    for line in computations[name]:
        what = _opcode(line)
        if what == "while":
            (inner,) = _called(line, ("body",), computations, depth + 1)
            known = TRIPS.search(line)
            turns = int(known[1]) if known else None
            loops += [Loop(depth, turns, inner.launches), *inner.loops]
            launches += (turns or 1) * inner.launches
            waits += (turns or 1) * inner.waits + (turns is None)
        elif what in ("call", "conditional", "async-start"):
            keys = ("to_apply", "calls", "true_computation", "false_computation")
            inner = max(_called(line, (*keys, "branch_computations"), computations, depth))
            launches += inner.launches
            waits += inner.waits + (what == "conditional")
            loops += inner.loops
        elif what not in FREE:
            launches += 1
    return Count(launches, waits, loops)


def _called(
    line: str, keys: tuple[str, ...], computations: dict[str, list[str]], depth: int
) -> Iterator[Count]:
    for key in keys:
        for several, one in re.findall(rf"\b{key}=(?:\{{([^}}]*)\}}|%?([\w.-]+))", line):
            for name in (several or one).split(", "):
                yield _of(name.strip("%"), computations, depth)


def _opcode(line: str) -> str:
    """Behind the result's type, which may be a tuple of types."""
    rest = line.split(" = ", 1)[1]
    if rest.startswith("("):
        open_ = 0
        for place, letter in enumerate(rest):
            open_ += (letter == "(") - (letter == ")")
            if not open_:
                rest = rest[place + 1 :]
                break
    found = re.search(r"(?:^| )([a-z][\w-]*)\(", rest)
    return found[1] if found else "constant"


def training(config: Config) -> tuple[Count, int]:
    """A call of training, and its rounds; all agents on one device."""
    program, rounds = AgentProgram(config), config.train.call_rounds
    keys = jax.random.split(jax.random.key(0), config.train.agents)
    state = jax.eval_shape(jax.vmap(program.initial), keys)
    call = jax.jit(
        jax.vmap(lambda s, first: program.run(s, first, rounds), in_axes=(0, None)),
        donate_argnums=0,
    )
    return count(call.lower(state, jnp.int32(0)).compile()), rounds


def lander(lanes: int) -> Count:
    """A step of Lunar Lander in that many lanes."""
    environment = envs.make("lunar-lander")
    keys = jax.random.split(jax.random.key(0), lanes)
    state = jax.eval_shape(jax.vmap(environment.reset), keys)
    step = jax.jit(jax.vmap(environment.step))
    return count(step.lower(state, jnp.zeros(lanes, jnp.int32)).compile())


def say(what: str, counted: Count, rounds: int = 1) -> None:
    """Print the launches of a round or step, and its loops."""
    print(
        f"{what}: {counted.launches / rounds:,.0f} launches, the host waits "
        f"{counted.waits / rounds:,.1f} times"
    )
    for loop in counted.loops:
        turns = "?" if loop.turns is None else loop.turns
        print(f"  {'  ' * loop.depth}{turns} turns of {loop.launches} launches")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", nargs="*", default=[])
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--agents", type=int, default=30)
    parser.add_argument("--lanes", type=int)
    options = parser.parse_args()
    print(jax.devices()[0].device_kind)
    for environment in options.environments:
        config = presets.preset(environment, options.preset)
        train = dataclasses.replace(config.train, agents=options.agents)
        counted, rounds = training(dataclasses.replace(config, train=train))
        say(f"{environment}, {options.agents} agents, a round of training", counted, rounds)
    if options.lanes:
        say(f"Lunar Lander, {options.lanes} lanes, a step", lander(options.lanes))


if __name__ == "__main__":
    main()
