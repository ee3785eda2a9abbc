"""The training stage: from a run's config to its checkpoints, resumable at any moment."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np

from muscope import runtime
from muscope.config import trained_alike, training_dict
from muscope.errors import CheckpointError
from muscope.progress import progress
from muscope.storage import checkpoint
from muscope.storage.run import Run
from muscope.training.agent import AgentState, RoundMetrics
from muscope.training.population import Population

WORTH_SAYING = 100e6  # bytes of replay from which on they are announced


class Interrupted(Exception):
    """Training was asked to stop and has saved its state."""


def train(run: Run) -> None:
    """Train the run to its last step, from where it stands.

    Every call of the compiled program ends in a consistent state.  Checkpoints are
    written at their steps and the full state at least every ``train.save_seconds``;
    a process killed at any moment resumes from the last saved state to the bit-identical
    result that it would have had, on the same machine and versions.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        CheckpointError: the saved state is damaged or belongs to another program.
        RunError: another process is working on the run.

    """
    runtime.prepare()
    with run.lock():
        run.save_config()
        if run.missing_steps():
            population = Population(run.config)
            memory = population.refuse_what_does_not_fit()
            if population.replay_bytes() >= WORTH_SAYING:
                print(f"{memory}.", file=sys.stderr)
            with _stop_requests() as stop:
                _loop(run, population, *_begin(run, population), stop)
        run.state_path.unlink(missing_ok=True)
    if run.missing_steps():
        raise CheckpointError(f"checkpoints vanished from {run.path} during training; repeat it.")


def _begin(run: Run, population: Population) -> tuple[AgentState, int, float]:
    """The state to go on from, its rounds, and the seconds already spent."""
    if run.state_path.exists():
        template = jax.eval_shape(population.initial)
        state, header = checkpoint.read(run.state_path, template, checkpoint.STATE_FORMAT)
        if not trained_alike(header["config"], run.config):
            raise CheckpointError(
                f"{run.state_path} belongs to other settings; delete it to start over."
            )
        if header["versions"] != checkpoint.versions():
            raise CheckpointError(
                f"{run.state_path} was written by {header['versions']}, this is "
                f"{checkpoint.versions()}: install those versions, or delete it to start over."
            )
        if not any(step <= header["step"] for step in run.missing_steps()):
            _truncate(run.metrics_path, header["rounds"])
            return population.place(state), header["rounds"], header["seconds"]
        print(
            f"{run.path}: a checkpoint older than the saved state is missing; starting over.",
            file=sys.stderr,
        )
    run.metrics_path.unlink(missing_ok=True)
    return population.initial(), 0, 0.0


def _loop(
    run: Run,
    population: Population,
    state: AgentState,
    rounds: int,
    seconds: float,
    stop: list[int],
) -> None:
    """Call the compiled program to the end; save on schedule, from time to time and on request."""
    train_config = run.config.train
    saved = began = time.monotonic()
    before = seconds
    step = population.training_step(rounds)
    schedule = set(train_config.schedule)
    if rounds == 0 and 0 in schedule:
        _write_agents(run, state, 0)
    with progress("train", train_config.steps, "step", step) as bar:
        while step < train_config.steps:
            state, metrics = population.advance(state, rounds)
            rounds += train_config.call_rounds
            reached = population.training_step(rounds)
            seconds = before + time.monotonic() - began
            _log(run.metrics_path, metrics, rounds, reached, seconds)
            at_checkpoint = reached > step and reached in schedule
            if at_checkpoint:
                _write_agents(run, state, reached)
            bar.update(reached - step)
            bar.set_postfix(_summary(metrics), refresh=False)
            step = reached
            # After the checkpoint: a state must not be newer than a checkpoint that is missing.
            due = time.monotonic() - saved > train_config.save_seconds
            if at_checkpoint or due or stop:
                _write_state(run, state, rounds, step, seconds)
                saved = time.monotonic()
            if stop:
                raise Interrupted(f"stopped at training step {step}; the same command resumes.")


def _write_agents(run: Run, state: AgentState, step: int) -> None:
    checkpoint.write(
        run.checkpoint_path(step),
        jax.device_get(state.average),
        kind=checkpoint.AGENTS_FORMAT,
        step=step,
        config=training_dict(run.config),
    )


def _write_state(run: Run, state: AgentState, rounds: int, step: int, seconds: float) -> None:
    checkpoint.write(
        run.state_path,
        state,
        kind=checkpoint.STATE_FORMAT,
        step=step,
        config=training_dict(run.config),
        rounds=rounds,
        seconds=seconds,
    )


def _log(path: Path, metrics: RoundMetrics, rounds: int, step: int, seconds: float) -> None:
    """Append one line: sums over the call's rounds, one list entry per agent."""
    values = {k: np.asarray(v).tolist() for k, v in metrics._asdict().items()}
    line = json.dumps({"rounds": rounds, "step": step, "seconds": round(seconds, 3), **values})
    with open(path, "a") as file:
        file.write(line + "\n")


def _truncate(path: Path, rounds: int) -> None:
    """Drop the lines written after the state that training goes on from, and a torn one."""
    if path.exists():
        lines = path.read_text().splitlines()
        kept = [x for x in lines if x.endswith("]}") and json.loads(x)["rounds"] <= rounds]
        checkpoint.write_atomically(path, "".join(x + "\n" for x in kept).encode())


def _summary(metrics: RoundMetrics) -> dict[str, str]:
    episodes = float(np.sum(metrics.episodes))
    return {"score": f"{float(np.sum(metrics.score)) / episodes:.0f}"} if episodes else {}


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that fills when SIGINT or SIGTERM comes; a second SIGINT stops at once."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    try:
        old = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # Not in the main thread, where signals cannot be taken over.
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
