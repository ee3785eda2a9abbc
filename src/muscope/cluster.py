"""A study's jobs on a Ray cluster: any number of machines, the same bits as on one.

Ray schedules, this module only hands it the jobs whose needs are done.  Results are files: on a
disk that all nodes see, or sent through Ray and written here (``ray.transfer``).  A job whose
worker or node dies is tried again and goes on from what it had saved; one that fails leaves the
others alone and is told at the end, with its log and the command that runs it alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from muscope import runtime
from muscope.config import RayConfig
from muscope.errors import BusyError, ConfigError, Interrupted, JobError, MuscopeError
from muscope.experiments.plans import Plan
from muscope.jobs import FILE, Job, execute, jobs, read, write_down
from muscope.progress import progress, say
from muscope.storage.checkpoint import write_atomically
from muscope.storage.run import Run

BUSY = 5.0
"""Seconds before a job is tried again whose block a dying worker may still hold."""
PATIENCE = 10.0
"""Seconds in which a cluster must answer."""
Files = dict[str, bytes]
"""Contents by path inside a run's directory."""


class Failure(NamedTuple):
    """A job that could not be done."""

    job: Job
    reason: str


class _Failed(NamedTuple):
    """What a worker tells of a job that raised."""

    reason: str
    passing: bool
    """It may go well later: another process held what it needs, or it was asked to stop."""


def run(of: Run, plans: Sequence[Plan], options: RayConfig) -> None:
    """Do all jobs of a study; the run's lock must be held.

    Args:
        of: the run; its ``config.json`` is there.
        plans: what is examined.
        options: how Ray is used.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
        Interrupted: Ctrl-C came; what was done is kept.
        JobError: some jobs failed; all others are done.

    """
    write_down(of, plans)
    listed = jobs(of, plans)
    with _ray(options) as ray:
        driver = _Driver(ray, of, plans, options)
        try:
            driver.work_through(listed)
        except KeyboardInterrupt:
            driver.cancel()
            raise Interrupted("stopped; the same command resumes.") from None
    if driver.failures:
        raise JobError(_told(of, listed, driver))


@contextlib.contextmanager
def _ray(options: RayConfig) -> Iterator[Any]:
    """Ray, connected to the cluster or started for the time of the block."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--runner ray needs Ray; pip install 'muscope[ray]'.") from error
    names = ("XLA_FLAGS", "MUSCOPE_CACHE", "JAX_PLATFORMS", "PYTHONPATH")
    env = {name: os.environ[name] for name in names if name in os.environ}
    # The bits depend on how many devices share the agents, so workers have as many as this process.
    env["JAX_NUM_CPU_DEVICES"] = str(len(jax.local_devices()))
    _refuse_deaf(options.address)
    more: Any = {} if options.address else {"include_dashboard": False}
    try:
        with warnings.catch_warnings():
            # Ray starts processes by a fork, of which JAX warns; they run no JAX before they exec.
            warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
            ray.init(
                address=options.address or None,
                runtime_env={"env_vars": env},
                log_to_driver=False,
                configure_logging=False,
                **more,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster(options.address, str(error).strip().splitlines()[0]) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _refuse_deaf(address: str) -> None:
    """Raise if nobody listens at a HOST:PORT, for which Ray would wait for minutes.

    Raises:
        ConfigError: nobody does.

    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        except OSError as error:
            raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"there is no Ray cluster at ray.address {address!r} ({reason}); start one with "
        "'ray start --head', or leave ray.address empty."
    )


class _Driver:
    """Hands jobs to Ray and takes what comes back."""

    def __init__(self, ray: Any, of: Run, plans: Sequence[Plan], options: RayConfig):
        self.ray, self.run, self.plans, self.options = ray, of, plans, options
        self.failures: list[Failure] = []
        self._running: dict[Any, tuple[Job, int]] = {}
        self._done: set[str] = set()
        self._later: list[tuple[float, Job, int]] = []
        self._task = ray.remote(
            num_cpus=options.cpus_per_job, num_gpus=options.gpus_per_job, max_retries=0
        )(_work)

    def work_through(self, listed: Sequence[Job]) -> None:
        """Do what can be done."""
        waiting = {job.name: job for job in listed}
        with progress("jobs", len(listed), "job") as bar:
            while waiting or self._running or self._later:
                for job in [job for job in waiting.values() if self._done.issuperset(job.needs)]:
                    self._begin(waiting.pop(job.name), 1)
                self._begin_again()
                if not self._running and not self._later:
                    break  # What is left needs a job that failed.
                bar.set_postfix(running=len(self._running), refresh=False)
                bar.update(self._take())

    def cancel(self) -> None:
        """Stop what runs; blocks keep what they have saved."""
        for reference in self._running:
            self.ray.cancel(reference, force=True)

    def _begin(self, job: Job, attempt: int) -> None:
        if job.experiment:  # A table is put together here, where its cells are.
            execute(self.run, self.plans, job)
            self._done.add(job.name)
            return
        files = _files(self.run, job) if self.options.transfer else None
        reference = self._task.remote(str(self.run.path.resolve()), job.name, files)
        self._running[reference] = (job, attempt)

    def _begin_again(self) -> None:
        now = time.monotonic()
        due = [entry for entry in self._later if entry[0] <= now]
        self._later = [entry for entry in self._later if entry[0] > now]
        for _, job, attempt in due:
            self._begin(job, attempt)

    def _take(self) -> int:
        """Wait for a while; returns how many jobs are done."""
        if not self._running:
            time.sleep(0.2)
            return 0
        ended, _ = self.ray.wait(list(self._running), num_returns=1, timeout=1.0)
        done = 0
        for reference in ended:
            job, attempt = self._running.pop(reference)
            try:
                result = self.ray.get(reference)
            except self.ray.exceptions.RayTaskError as error:
                self._fail(job, f"{type(error.cause).__name__}: {error.cause}")
            except self.ray.exceptions.RayError as error:
                self._try_again(job, attempt, f"its worker died ({type(error).__name__})", 0.0)
            else:
                done += self._keep(job, attempt, result)
        return done

    def _keep(self, job: Job, attempt: int, result: _Failed | Files | None) -> int:
        if isinstance(result, _Failed):
            if result.passing:
                self._try_again(job, attempt, result.reason, BUSY)
            else:
                self._fail(job, result.reason)
            return 0
        for name, content in (result or {}).items():
            write_atomically(self.run.path / name, content)
        self._done.add(job.name)
        return 1

    def _try_again(self, job: Job, attempt: int, reason: str, after: float) -> None:
        if attempt >= self.options.attempts:
            self._fail(job, f"{reason}, {attempt} times")
            return
        say(f"{job.name}: {reason}; it is tried again ({attempt + 1} of {self.options.attempts}).")
        self._later.append((time.monotonic() + after, job, attempt + 1))

    def _fail(self, job: Job, reason: str) -> None:
        say(f"{job.name} failed: {reason}")
        self.failures.append(Failure(job, reason))


def _told(of: Run, listed: Sequence[Job], driver: _Driver) -> str:
    """What failed, where its log is, and the command that runs it alone."""
    failed = "; ".join(
        f"{failure.job.name} ({failure.reason} Log: {log_path(of.path, failure.job.name)}. "
        f"Alone: muscope job {of.path} {failure.job.name})"
        for failure in driver.failures
    )
    left = len(listed) - len(driver._done) - len(driver.failures)
    return f"{len(driver.failures)} of {len(listed)} jobs failed, {left} need them: {failed}"


def log_path(path: Path, name: str) -> Path:
    """Where a job's output goes."""
    return path / "logs" / f"{name}.log"


# In a worker.


def _work(path: str, name: str, files: Files | None) -> _Failed | Files | None:
    """One job in a worker's process: nothing to tell, the files it made, or why it failed."""
    if files is None:
        return _logged(Path(path), name)
    with tempfile.TemporaryDirectory() as place:
        for inner, content in files.items():
            write_atomically(Path(place) / inner, content)
        failed = _logged(Path(place), name)
        return failed or _made(Path(place), files)


def _logged(path: Path, name: str) -> _Failed | None:
    log = log_path(path, name)
    log.parent.mkdir(exist_ok=True)
    with (
        open(log, "a") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        print(f"{time.strftime('%F %T')} {name} in process {os.getpid()}", flush=True)
        runtime.start()
        of = Run.open(path)
        plans = read(of)
        job = next(job for job in jobs(of, plans) if job.name == name)
        try:
            execute(of, plans, job)
        except (MuscopeError, Interrupted) as error:
            print(error)
            return _Failed(str(error), isinstance(error, BusyError | Interrupted))
        except Exception as error:
            traceback.print_exc()
            return _Failed(f"{type(error).__name__}: {error}".splitlines()[0], False)
        print(f"{time.strftime('%F %T')} done", flush=True)
        return None


def _files(of: Run, job: Job) -> Files:
    """What a job reads: the run's settings, its block's files, and of the other blocks as much as
    tells whose they are.
    """
    names = [of.path / "config.json", of.path / FILE]
    for number, block in enumerate(of.blocks()):
        checkpoints = sorted(block.path.glob("checkpoints/*.safetensors"))
        if number != job.block:
            names += checkpoints[:1]
            continue
        names += checkpoints
        if job.piece is None:
            names += [block.state_path, block.metrics_path]
    return {str(p.relative_to(of.path)): p.read_bytes() for p in names if p.exists()}


def _made(place: Path, before: Mapping[str, bytes]) -> Files:
    """The files that are new or changed."""
    found = {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    return {name: content for name, content in found.items() if before.get(name) != content}
