"""Worker processes that step host simulators; one that dies is replaced and its work repeated.

A worker owns a :class:`HostModel`, and every piece of work says in full where it starts, so any
worker can do any piece and results do not depend on how many there are.  Workers are fresh
interpreters that talk over a socket: nothing is forked after JAX has started its threads, the
user's main module is not run again, and a worker ends by itself when its parent is gone.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import io
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol, runtime_checkable

from muscope.errors import HostError

REPEATS = 3  # times that work is sent again after its worker died
PIECES = 4  # pieces of work per worker in one call, so that none waits long for the slowest
PATIENCE = 5.0  # s that a worker gets to end before it is killed
ONE_WORKER = "set environment.options.host.workers to 1"
HAS_WORKERS = os.name == "posix"  # Elsewhere a process cannot be handed a socket by its number.


class HostStep(NamedTuple):
    """Where a host simulator stands after a reset or a step."""

    snapshot: bytes
    """All that the simulator's future depends on."""
    view: Any
    """What there is to see: an array, or a named tuple of arrays; always of the same shapes and
    types."""
    reward: float
    over: bool
    """The game is over."""


@runtime_checkable
class HostModel(Protocol):
    """A simulator on the host that can be put into any of its states.

    Whatever a snapshot leaves out must not matter: after ``step(snapshot, action)`` the result
    depends on these two alone, whichever states the same object was in before.
    """

    def reset(self, start: int) -> HostStep:
        """The initial state with a number; its reward is 0."""
        ...

    def step(self, snapshot: bytes, action: int) -> HostStep:
        """One step from a state that is not over."""
        ...


Maker = Callable[[], HostModel]
"""Makes a worker's model; picklable by a module's name, as a frozen dataclass is."""


class Played(NamedTuple):
    """One of some given actions."""

    snapshot: bytes | None
    """Of the state that it has led to, if remembering that may save more than it costs."""
    reward: float
    ended: bool
    """No action follows this one."""


@runtime_checkable
class PlayingModel(HostModel, Protocol):
    """A simulator that follows given actions faster than step by step."""

    def play(self, snapshot: bytes, actions: Sequence[int], training: bool) -> list[Played]:
        """Some actions from a state that is not over, up to the end.

        Args:
            snapshot: of the state.
            actions: in order.
            training: end where the environment's training view ends too.

        Returns:
            What :meth:`step` would give, one after the other, until the game is over or no action
            is left.

        """
        ...


class Work(NamedTuple):
    """One reset or one step."""

    snapshot: bytes | None
    """None resets."""
    number: int
    """The action, or the number of the initial state."""


class Playout(NamedTuple):
    """Some actions of a :class:`PlayingModel`."""

    snapshot: bytes
    actions: Sequence[int]
    training: bool


def perform(model: Any, work: Work | Playout) -> Any:
    """Do one piece of work: a step's or reset's :class:`HostStep`, or given actions."""
    if isinstance(work, Playout):
        return model.play(*work)
    if work.snapshot is None:
        return model.reset(work.number)
    return model.step(work.snapshot, work.number)


class Failure(NamedTuple):
    """What went wrong in a worker, sent in place of results."""

    making: bool
    """The model could not be made; otherwise a step failed."""
    words: str
    """The error in one line."""
    trace: str


def in_words(error: BaseException) -> str:
    """An error in one line: its class, what it says, and where it was raised."""
    reason = " ".join(str(error).split())
    words = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename != __file__]
    if theirs:
        words += f" ({os.path.basename(theirs[-1].filename)}, line {theirs[-1].lineno})"
    return words


def serve(link: Connection) -> None:
    """A worker's life: read the maker, then pieces of work, until the parent hangs up.

    Whatever the simulator raises goes to the parent, also what would end a process.
    """
    try:
        maker, model = link.recv_bytes(), None
        while True:
            piece = link.recv()
            try:
                model = model or pickle.loads(maker)()
                link.send([perform(model, work) for work in piece])
            except BaseException as error:
                failure = Failure(model is None, in_words(error), traceback.format_exc())
                link.send(tuple(failure))
    except (EOFError, OSError):
        return


_PROGRAM = """
import sys, traceback
from multiprocessing.connection import Connection
sys.path[:] = {path!r}
try:
    from muscope.envs.workers import serve
except BaseException as error:
    failure = True, repr(error), traceback.format_exc()
    def serve(link):
        link.recv_bytes(), link.recv_bytes()
        link.send(failure)
serve(Connection({handle}))
"""
"""What a worker runs; if muscope itself cannot be imported, that answers the first work."""


class _Worker:
    """One process and the parent's end of its socket."""

    def __init__(self, maker: bytes):
        ours, theirs = socket.socketpair()
        with theirs:
            program = _PROGRAM.format(path=sys.path, handle=theirs.fileno())
            self.process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is the parent's to handle.
                # A model may import JAX; it must never touch an accelerator.
                env={**os.environ, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"},
            )
        self.link = Connection(ours.detach())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.link.send_bytes(maker)  # If it is gone already, its first work will tell.

    def end(self) -> int:
        """Hang up, and see to it that the process is gone; returns its exit status."""
        self.link.close()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class _Piece(NamedTuple):
    """Consecutive work for one worker."""

    first: int
    work: Sequence[Work | Playout]
    deaths: int = 0


class Pool:
    """Workers that start with the first call; safe to call from several threads.

    Args:
        maker: makes each worker's model.
        workers: processes; with one, the model runs in this process, without any transfer.

    Raises:
        HostError: there is to be more than one worker, and the maker cannot be sent to them, or
            this system has none.

    """

    def __init__(self, maker: Maker, workers: int):
        self.count = workers
        self._maker = maker
        self._sent = _pickled(maker) if workers > 1 else b""
        self._model: HostModel | None = None
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    @property
    def pids(self) -> list[int]:
        """Process numbers of the running workers."""
        return [worker.process.pid for worker in self._workers]

    def map(self, work: Sequence[Work | Playout]) -> list[Any]:
        """Results in the order of the work.

        Raises:
            HostError: the model failed, or workers died repeatedly over the same piece.

        """
        if not work:
            return []
        with self._lock:
            if self.count == 1:
                return self._map_here(work)
            try:
                return self._map_there(work)
            except BaseException:
                # Whoever is still busy would answer into the next call.
                self._close()
                raise

    def _map_here(self, work: Sequence[Work | Playout]) -> list[Any]:
        try:
            if self._model is None:
                self._model = self._maker()
                atexit.register(self.close)
            return [perform(self._model, piece) for piece in work]
        except Exception as error:
            raise HostError(f"a host simulator failed: {in_words(error)}") from error

    def _map_there(self, work: Sequence[Work | Playout]) -> list[Any]:
        if not self._workers:
            self._workers = [_Worker(self._sent) for _ in range(self.count)]
            atexit.register(self.close)
        size = -(-len(work) // (self.count * PIECES))
        waiting = collections.deque(
            _Piece(first, work[first : first + size]) for first in range(0, len(work), size)
        )
        idle = list(self._workers)
        busy: dict[Any, tuple[_Worker, _Piece]] = {}
        results: list[Any] = [None] * len(work)

        def lost(worker: _Worker, piece: _Piece) -> None:
            """Replace a dead worker and put its piece back in front."""
            status = worker.end()
            if piece.deaths == REPEATS:
                hint = ", which is often a lack of memory" if status == -signal.SIGKILL else ""
                raise HostError(
                    f"an environment worker died {REPEATS + 1} times over the same work (last "
                    f"exit status {status}{hint}). Its own messages stand above; try fewer "
                    "workers (environment.options.host.workers)."
                )
            at = self._workers.index(worker)
            self._workers[at] = _Worker(self._sent)
            idle.append(self._workers[at])
            waiting.appendleft(piece._replace(deaths=piece.deaths + 1))

        while waiting or busy:
            while waiting and idle:
                worker, piece = idle.pop(), waiting.popleft()
                try:
                    worker.link.send(piece.work)
                    busy[worker.link] = worker, piece
                except OSError:
                    lost(worker, piece)
            for link in wait(list(busy)):
                worker, piece = busy.pop(link)
                try:
                    answer = worker.link.recv()
                except (EOFError, OSError):
                    lost(worker, piece)
                    continue
                if isinstance(answer, tuple):
                    raise _failed(Failure(*answer))
                results[piece.first : piece.first + len(piece.work)] = answer
                idle.append(worker)
        return results

    def close(self) -> None:
        """End all workers; the next call starts new ones."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        atexit.unregister(self.close)
        self._model = None
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.end()


class _Names(pickle.Unpickler):
    """Reads a maker back, and refuses what a worker cannot import."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "__main__":
            raise pickle.UnpicklingError(f"'{name}' is defined in the script that was started")
        return super().find_class(module, name)


def _pickled(maker: Maker) -> bytes:
    """The maker as a worker gets it.

    Raises:
        HostError: it cannot be sent, or no process can get it.

    """
    if not HAS_WORKERS:
        raise HostError(f"there are no worker processes on this system; {ONE_WORKER}.")
    try:
        sent = pickle.dumps(maker)
        _Names(io.BytesIO(sent)).load()
    except Exception as error:  # A class may do anything when it is pickled.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HostError(
            f"{maker!r} cannot be sent to worker processes ({reason}); define it at the top of an "
            f"importable module, or {ONE_WORKER}."
        ) from error
    return sent


class _InWorker(Exception):
    """The traceback of an error in a worker, as the cause of the one that is raised here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _failed(failure: Failure) -> HostError:
    if failure.making:
        error = HostError(
            f"a worker process could not make its simulator: {failure.words}; define what it needs "
            f"in an importable module, or {ONE_WORKER}."
        )
    else:
        error = HostError(f"a host simulator failed: {failure.words}")
    error.__cause__ = _InWorker(failure.trace)
    return error
