"""The training stage: from a run's config to its checkpoints, resumable at any moment."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from muscope import runtime
from muscope.config import trained_alike, training_dict
from muscope.errors import CheckpointError, ConfigError, DivergedError, Interrupted, RunError
from muscope.interrupt import heard
from muscope.progress import progress, say
from muscope.storage import checkpoint
from muscope.storage import metrics as log
from muscope.storage.block import Block
from muscope.storage.provenance import processor
from muscope.storage.run import Run
from muscope.training.agent import RoundMetrics
from muscope.training.health import Watch
from muscope.training.population import Population

WORTH_SAYING = 100e6  # bytes of replay from which on they are announced


def train(run: Run, numbers: Sequence[int] | None = None) -> None:
    """Train the run to its last step, from where it stands, block by block.

    Every call of the compiled program ends in a consistent state.  Checkpoints are
    written at their steps and the full state at least every ``train.save_seconds``;
    a process killed at any moment resumes from the last saved state to the bit-identical
    result that it would have had, on the same machine and versions.

    A start that fails before its first call is done leaves nothing behind.

    Args:
        run: to be trained.
        numbers: which of :meth:`Run.blocks`; other processes may train others meanwhile.  All by
            default.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        CheckpointError: the saved state is damaged or belongs to another program.
        ConfigError: there is no such block.
        DivergedError: numbers came that are not finite; see :mod:`muscope.training.health`.
        RunError: the state was written on other devices.
        BusyError: another process is working on the run.

    """
    runtime.start()
    blocks = run.blocks()
    wrong = sorted(set(numbers or ()) - set(range(len(blocks))))
    if wrong:
        raise ConfigError(f"there is no block {wrong[0]}; the run has 0..{len(blocks) - 1}.")
    chosen = blocks if numbers is None else [blocks[number] for number in sorted({*numbers})]
    with run.begin() if numbers is None else run.begin_part(), _stop_requests() as stop:
        programs: dict[tuple[int, int], Population] = {}
        for block in chosen:
            with block.training():
                _train_block(run, block, programs, stop)


def _train_block(
    run: Run, block: Block, programs: dict[tuple[int, int], Population], stop: list[int]
) -> None:
    """Train one block; blocks of equal size share their compiled programs."""
    schedule = run.config.train.schedule
    if block.missing_steps(schedule):
        devices = _devices(block)
        kind = (len(block.agents), len(devices))
        if kind not in programs:
            programs[kind] = Population(run.config, devices, block.agents)
            memory = programs[kind].refuse_what_does_not_fit()
            if programs[kind].replay_bytes() >= WORTH_SAYING:
                print(f"{memory}.", file=sys.stderr)
        programs[kind].agents = block.agents
        _Training(run, block, programs[kind]).go_on(stop)
    block.state_path.unlink(missing_ok=True)
    block.diverged_path.unlink(missing_ok=True)
    if block.missing_steps(schedule):
        raise CheckpointError(f"checkpoints vanished from {block.path} during training; repeat it.")


def _devices(block: Block) -> list[jax.Device]:
    """Those that share the agents: this machine's, or as many as a saved state was written with,
    because the bits depend on their number.

    Raises:
        CheckpointError: the saved state is damaged.
        RunError: there are fewer, or they are of another kind.

    """
    here = jax.local_devices()
    if not block.state_path.exists():
        return here
    header = checkpoint.read_header(block.state_path, checkpoint.STATE_FORMAT)
    kind, count = header["platform"], header["devices"]
    if kind != here[0].platform:
        raise RunError(
            f"{block.path} was trained on {kind} so far, this is {here[0].platform}; set "
            f"JAX_PLATFORMS={kind}, or delete {block.state_path} to start over."
        )
    if count > len(here):
        mend = f"JAX_NUM_CPU_DEVICES={count} (more than cores is fine)" if kind == "cpu" else ""
        raise RunError(
            f"{block.path} was trained on {count} {kind} devices so far, here are {len(here)}, and "
            f"its bits depend on that; set {mend or 'more devices free'}, or delete "
            f"{block.state_path} to start over."
        )
    if header["processor"] != processor():
        print(
            f"muscope: {block.path} was trained on '{header['processor']}' so far, this is "
            f"'{processor()}'; the last bits of what follows may differ.",
            file=sys.stderr,
        )
    return here[:count]


class _Training:
    """A block's training under way."""

    def __init__(self, run: Run, block: Block, population: Population):
        self.run, self.block, self.population = run, block, population
        self.rounds, self.seconds = 0, 0.0
        """Done, and spent, so far."""
        seen = None
        header = self._saved()
        if header is None:
            block.metrics_path.unlink(missing_ok=True)
            self.state = population.initial()
        else:
            template = jax.eval_shape(population.initial)
            state, _ = checkpoint.read(block.state_path, template, checkpoint.STATE_FORMAT)
            self.state = population.place(state)
            self.rounds, self.seconds = header["rounds"], header["seconds"]
            seen = header["seen"]
            damaged = log.truncate(block.metrics_path, self.rounds)
            if damaged:
                print(
                    f"muscope: {block.metrics_path}: {damaged} torn or damaged line(s) dropped.",
                    file=sys.stderr,
                )
        alone = len(block.agents) == run.config.train.agents
        self.watch = Watch(population.supports(), block.agents, seen, alone=alone)

    def _saved(self) -> dict[str, Any] | None:
        """The header of the state to go on from, if there is one.

        Raises:
            CheckpointError: it is damaged, or belongs to other settings or versions.

        """
        run, block = self.run, self.block
        if not block.state_path.exists():
            return None
        header = checkpoint.read_header(block.state_path, checkpoint.STATE_FORMAT)
        if not trained_alike(header["config"], run.config):
            raise CheckpointError(
                f"{block.state_path} belongs to other settings; delete it to start over."
            )
        if header["versions"] != checkpoint.versions():
            raise CheckpointError(
                f"{block.state_path} was written by {header['versions']}, this is "
                f"{checkpoint.versions()}: install those versions, or delete it to start over."
            )
        if any(step <= header["step"] for step in block.missing_steps(run.config.train.schedule)):
            print(
                f"{block.path}: a checkpoint older than the saved state is missing; starting over.",
                file=sys.stderr,
            )
            return None
        return header

    @property
    def step(self) -> int:
        """Updates done."""
        return self.population.training_step(self.rounds)

    def go_on(self, stop: list[int]) -> None:
        """Call the compiled program to the end; save on schedule, from time to time and on
        request.
        """
        train_config = self.run.config.train
        before, began = self.seconds, time.monotonic()
        saved = began
        schedule = set(train_config.schedule)
        print(f"{self.block.path}: {self.watch.can_hold()}.", file=sys.stderr)
        if self.rounds == 0 and 0 in schedule:
            self._write_agents()
        with progress("train", train_config.steps, "step", self.step) as bar:
            while self.step < train_config.steps:
                last = self.step
                metrics = self._advance()
                self.seconds = before + time.monotonic() - began
                _log(self.block.metrics_path, metrics, self.rounds, self.step, self.seconds)
                self._look(metrics)
                at_checkpoint = self.step > last and self.step in schedule
                if at_checkpoint:
                    self._write_agents()
                bar.update(self.step - last)
                bar.set_postfix(_summary(metrics), refresh=False)
                # After the checkpoint: a state must not be newer than a checkpoint that is missing.
                due = time.monotonic() - saved > train_config.save_seconds
                if at_checkpoint or due or stop:
                    self._write_state(self.block.state_path)
                    saved = time.monotonic()
                if stop:
                    raise Interrupted(
                        f"stopped at training step {self.step}; the same command resumes."
                    )
        for words in self.watch.clipped():
            print(f"{self.block.path}: {words}.", file=sys.stderr)

    def _advance(self) -> RoundMetrics:
        self.state, metrics = self.population.advance(self.state, self.rounds)
        self.rounds += self.run.config.train.call_rounds
        return metrics

    def _look(self, metrics: RoundMetrics) -> None:
        """Check what the call gave; a state that cannot go on is kept beside the last sound one.

        Raises:
            DivergedError: as :meth:`muscope.training.health.Watch.look`.

        """
        try:
            self.watch.look(self.population.health(self.state), metrics, self.step)
        except DivergedError as error:
            kept = self.block.diverged_path
            self._write_state(kept)
            raise DivergedError(f"{error}. What it came to is kept in {kept}.") from None

    def _write_agents(self) -> None:
        path = self.block.checkpoint_path(self.step)
        agents = jax.device_get(self.population.own(self.state.average))
        if _holds(path, agents):  # Made again on the way to a further one.
            return
        checkpoint.write(
            path,
            agents,
            kind=checkpoint.AGENTS_FORMAT,
            agents=[self.block.agents.start, len(self.block.agents)],
            step=self.step,
            config=training_dict(self.run.config),
            seen=self.watch.seen,
        )

    def _write_state(self, path: Path) -> None:
        mesh = self.population.mesh
        checkpoint.write(
            path,
            self.state,
            kind=checkpoint.STATE_FORMAT,
            agents=[self.block.agents.start, len(self.block.agents)],
            step=self.step,
            config=training_dict(self.run.config),
            rounds=self.rounds,
            seconds=self.seconds,
            seen=self.watch.seen,
            devices=mesh.size,
            platform=mesh.devices.flat[0].platform,
            processor=processor(),
        )


def _holds(path: Path, agents: Any) -> bool:
    """Whether a checkpoint is there and has these very parameters."""
    if not path.exists():
        return False
    try:
        there, _ = checkpoint.read(path, agents, checkpoint.AGENTS_FORMAT)
    except CheckpointError:
        return False  # Damaged: it is written again.
    pairs = zip(jax.tree.leaves(there), jax.tree.leaves(agents), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def _log(path: Path, metrics: RoundMetrics, rounds: int, step: int, seconds: float) -> None:
    """Append one line: sums over the call's rounds, one list entry per agent."""
    values = jax.tree.map(lambda x: np.asarray(x).tolist(), metrics._asdict())
    if not values["terms"]:
        del values["terms"]
    log.append(path, {"rounds": rounds, "step": step, "seconds": round(seconds, 3), **values})


def _summary(metrics: RoundMetrics) -> dict[str, str]:
    episodes = float(np.sum(metrics.episodes))
    return {"score": f"{float(np.sum(metrics.score)) / episodes:.0f}"} if episodes else {}


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that fills when SIGINT or SIGTERM comes; a second SIGINT stops at once.

    The first is answered at once, though Python sees to it only when the running call is over.
    """
    received: list[int] = []
    answered = False

    def note(number: int, frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    def answer(number: int, ended: threading.Event) -> bool:
        nonlocal answered
        if answered:
            return number != signal.SIGINT
        answered = True
        say("stopping after the running call; Ctrl-C once more stops at once.")
        return True

    try:
        old = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # Not in the main thread, where signals cannot be taken over.
        yield received
        return
    try:
        with heard(answer):
            yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
