"""Settings as nobody should write them, generated from the settings' own fields and bounds.

Each is either accepted, and then means something, or refused in one line; nothing hangs, shows a
traceback or writes.  ``test_mutations.py`` tries a sample, ``benchmarks/mutations.py`` all.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import math
import random
import signal
import traceback
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
from annotated_types import Interval, MaxLen
from conftest import tiny_config

from muscope import checks, cli, stages
from muscope.config import Config, EnvironmentConfig, Settings, to_dict
from muscope.envs.registry import options_class
from muscope.errors import MuscopeError
from muscope.experiments import plans as asking
from muscope.experiments import registry
from muscope.run_subject import RunSubject
from muscope.stages import StudyRun
from muscope.storage import checkpoint
from muscope.training.population import Population

NAN, INFINITY = math.nan, math.inf
ODD: tuple[Any, ...] = (
    *(None, NAN, INFINITY, -INFINITY, "x", "", "1", "a\nb", "ü" * 200),
    *([], [[]], [[1]], {}, {"a": {}}, True, -1, 0, 1.5, 10**30, 2**31, 2**63, 1e30, 1e-320, -1e30),
)
"""Values of any type, tried in every place."""
SECONDS = 60.0  # that one check may take on a busy machine
WORLDS = ("cart-pole", "lunar-lander", "breakout")
"""Environments whose options are tried; the first with every other setting."""


class Leaf(NamedTuple):
    """One setting."""

    path: tuple[str, ...]
    hint: Any


class Mutation(NamedTuple):
    """One setting with another value, or another name."""

    world: str
    path: tuple[str, ...]
    value: Any

    @property
    def words(self) -> str:
        return f"{self.world}: {'.'.join(self.path)} = {str(self.value)[:60]!r}"


def leaves(cls: type[Settings], path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """All settings of a class and of those inside it."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, Settings):
            yield from leaves(hint, (*path, field.name))
        else:
            yield Leaf((*path, field.name), hint)


def all_leaves(world: str) -> list[Leaf]:
    """The settings of a run in an environment: of the first one all, of others their options."""
    options = options_class(world)
    own = list(leaves(options, ("environment", "options"))) if options else []
    if world != WORLDS[0]:
        return own
    experiments = [
        leaf
        for experiment in registry.everything().values()
        for leaf in leaves(experiment.settings, ("experiments", experiment.name))
    ]
    return [*leaves(Config), *experiments, *own]


def values(hint: Any) -> list[Any]:
    """What to try in a place: both sides of every bound, and what is of no use there."""
    tried: list[Any] = []
    bounds = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Interval)]
    for bound in bounds:
        for edge, outward in ((bound.ge, -1), (bound.le, 1)):
            whole = isinstance(edge, int)
            beyond = edge + outward if whole else math.nextafter(edge, outward * INFINITY)
            inside = edge - outward if whole else math.nextafter(edge, -outward * INFINITY)
            tried += [edge, inside, beyond]
    plain = getattr(hint, "__origin__", hint) if bounds or _annotated(hint) else hint
    if typing.get_origin(plain) is tuple:
        inner = typing.get_args(plain)[0]
        lengths = [m.max_length for m in getattr(hint, "__metadata__", ()) if isinstance(m, MaxLen)]
        some = values(inner)
        tried += [[value] for value in some]
        tried += [[some[0]] * n for length in lengths for n in (length, length + 1)]
    if typing.get_origin(plain) is typing.Literal:
        tried += list(typing.get_args(plain))
    return [*tried, *ODD]


def _annotated(hint: Any) -> bool:
    return hasattr(hint, "__metadata__")


def of_files() -> list[Mutation]:
    """Mutations of config.json: every setting, every section, every name misspelt."""
    made = []
    for world in WORLDS:
        known = all_leaves(world)
        made += [Mutation(world, leaf.path, value) for leaf in known for value in values(leaf.hint)]
        made += [Mutation(world, _misspelt(leaf.path), 1) for leaf in known]
        sections = {leaf.path[:-1] for leaf in known if leaf.path[:-1]}
        made += [Mutation(world, path, v) for path in sorted(sections) for v in (None, [], 3, "x")]
    return made


def of_lines() -> list[Mutation]:
    """Mutations of flags: fewer values, because a line takes longer to read."""
    made = []
    for world in WORLDS:
        for leaf in all_leaves(world):
            if leaf.path in (("preset",), ("environment", "name"), ("experiments",)):
                continue
            if leaf.path == ("environment", "options"):
                continue
            tried = values(leaf.hint)
            keep = [v for v in tried[: -len(ODD)] if not isinstance(v, list)][:6]
            lists = [v for v in tried if isinstance(v, list)]
            few = [*keep, *lists[:2], *lists[-2:], None, NAN, INFINITY, "x", -1, 10**30, 1e-320]
            made += [Mutation(world, leaf.path, value) for value in few]
            made.append(Mutation(world, _misspelt(leaf.path), 1))
    return made


def _misspelt(path: tuple[str, ...]) -> tuple[str, ...]:
    """The last name without its second letter."""
    *outer, last = path
    return (*outer, last[:1] + last[2:] + "_")


class Outcome(NamedTuple):
    """How a mutation ended."""

    accepted: bool
    said: str
    wrong: str = ""
    """What it must not have done."""
    config: Config | None = None
    """What was accepted of a training."""


class Accepted(BaseException):
    """All checks are passed; the long work would begin."""


class TimeLimit(BaseException):
    """A check takes too long."""


@contextlib.contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    """Stop what takes longer."""

    def stop(number: int, frame: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Bench:
    """A folder in which mutations are tried."""

    def __init__(self, folder: Path, worlds: tuple[str, ...] = WORLDS):
        self.folder = folder
        self.run = folder / "run"
        train = tiny_config().train
        for step in train.schedule:  # Whose agents are never read.
            checkpoint.write(
                self.run / "checkpoints" / f"step-{step:08d}.safetensors",
                {"weight": np.zeros(1, np.float32)},
                kind=checkpoint.AGENTS_FORMAT,
                step=step,
                config={},
                agents=[0, train.agents],
            )
        self.plain = {world: to_dict(stages.resolved(_tiny(world))) for world in worlds}
        self.write(WORLDS[0])

    def write(self, world: str, path: tuple[str, ...] = (), value: Any = None) -> None:
        """The run's config.json, with one setting changed."""
        config = copy.deepcopy(self.plain[world])
        table = config
        for name in path[:-1]:
            table = table.setdefault(name, {})
        if path:
            table[path[-1]] = value
        (self.run / "config.json").write_text(json.dumps(config))

    def files(self) -> dict[str, tuple[int, int]]:
        """All that is there."""
        found = {str(p): p.stat() for p in self.folder.rglob("*")}
        return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in found.items()}

    def try_file(self, mutation: Mutation) -> Outcome:
        """A mutated config.json through everything that precedes writing."""
        self.write(*mutation)
        before = self.files()
        kept: list[Config] = []

        def look() -> None:
            run = StudyRun.open(self.run)
            config = stages.resolved(run.config)
            run.config = config
            subject = RunSubject(run)
            plans = asking.plan(subject, config.evaluate, config.experiments)
            checks.before_writing(config, subject, plans)
            kept.append(config)

        outcome = _tried(look)
        if self.files() != before:
            outcome = outcome._replace(wrong="it wrote")
        return outcome._replace(config=kept[0] if kept else None)

    def try_line(self, arguments: list[str]) -> Outcome:
        """A command line in this process, cut off where the long work begins."""
        if arguments[0] in ("train", "study", "examine"):
            arguments = [*arguments, "--out", str(self.folder / "new")]
        before = self.files()
        output, error = io.StringIO(), io.StringIO()
        checked = checks.before_writing

        def cut(*given: Any, **more: Any) -> None:
            checked(*given, **more)
            raise Accepted

        def call() -> None:
            with (
                contextlib.redirect_stdout(output),
                contextlib.redirect_stderr(error),
                mock.patch.object(checks, "before_writing", cut),
            ):
                cli.main(arguments)

        outcome, said = _tried(call), error.getvalue()
        if self.files() != before:
            outcome = outcome._replace(wrong="it wrote")
        if outcome.wrong or outcome.accepted:
            return outcome._replace(said=said)
        if len(said.splitlines()) != 1 or not said.startswith("muscope: ") or output.getvalue():
            return outcome._replace(said=said, wrong="not one line")
        return outcome._replace(said=said)


def _tiny(world: str) -> Config:
    tiny = tiny_config()
    if world == WORLDS[0]:
        return tiny
    network = dataclasses.replace(tiny.network, kind="mlp", input_scale=())
    environment = EnvironmentConfig(world)
    return dataclasses.replace(tiny, environment=environment, network=network)


def _tried(call: Any) -> Outcome:
    try:
        with limited():
            call()
    except Accepted:
        return Outcome(True, "")
    except MuscopeError as error:
        lines = str(error).splitlines()
        wrong = "" if len(lines) == 1 and len(lines[0]) < 1_000 else "not one line"
        return Outcome(False, str(error), wrong)
    except SystemExit as stop:
        return Outcome(False, "", "" if stop.code in (1, 2) else f"status {stop.code}")
    except TimeLimit:
        return Outcome(False, "", "it hangs")
    except Exception:
        return Outcome(False, "", f"a traceback: {traceback.format_exc(limit=-3)}")
    return Outcome(True, "")


def line_of(mutation: Mutation, run: Path, rng: random.Random) -> list[str]:
    """A command with the mutation's flag; which command is drawn."""
    path = mutation.path[1:] if mutation.path[0] == "experiments" else mutation.path
    names = path if path[0] != "environment" or len(path) < 3 else ("environment", *path[1:])
    flag = "--" + ".".join(names).replace("_", "-")
    value = mutation.value
    given = [] if value is None else [str(v) for v in value] if isinstance(value, list) else [value]
    arguments = [flag, *map(str, given)]
    command = rng.choice(("train", "study"))
    looks = path[0] == "evaluate" or mutation.path[0] == "experiments"
    if looks and rng.random() < 0.5:
        return ["evaluate", str(run), *arguments]
    return [command, mutation.world, *arguments]


def trains(config: Config, calls: int = 2) -> str:
    """Whether a few calls of training leave finite parameters; what is wrong, or nothing.

    The first calls only fill the replay.
    """
    population = Population(config)
    state, rounds = population.initial(), 0
    while population.training_step(rounds) < calls * config.train.updates_per_round:
        state, _ = population.advance(state, rounds)
        rounds += config.train.call_rounds
    leaves = jax.tree.leaves(jax.device_get((state.agent, state.average)))
    return "" if all(np.isfinite(leaf).all() for leaf in leaves) else "parameters are not finite"


def is_short(config: Config) -> bool:
    """Whether such a training takes seconds once it is compiled."""
    train, network = config.train, config.network
    roots = train.lanes + train.reanalysed_per_round
    searches = roots * config.search.simulations
    updates = train.updates_per_round * train.batch_size * (config.loss.unroll + 1)
    units = max(network.width, network.latent, network.value_bins, network.reward_bins)
    rounds = train.call_rounds + config.replay.start // train.lanes
    return rounds * train.agents * (searches + updates) * units < 2e7
