"""How a command ends: what stops it in one line on stderr, and its exit status."""

from __future__ import annotations

import _thread
import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator

from muscope.errors import Interrupted, MuscopeError
from muscope.interrupt import heard
from muscope.progress import say

STOPPED = "stopped; the same command resumes."
PATIENCE = 2.0  # s that Ctrl-C leaves compiled code to return before the process ends without it
ELSEWHERE = "mend its permissions or choose another place"
SPACE = "make room there; the same command goes on where it stopped"
MENDS = {
    errno.EACCES: ELSEWHERE,
    errno.EPERM: ELSEWHERE,
    errno.EROFS: ELSEWHERE,
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EIO: "the disk or the network failed; see to it, the same command goes on",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOMEM: "end other programs, or lower what the settings ask for",
}
"""What to do about errors of the operating system."""


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Print what stops the block in one line, and exit: with status 1 of an error, 130 of Ctrl-C.

    A reader of the output that has seen enough (``| head``) ends it without a word.
    """
    try:
        with heard(_insist), _no_interrupt_lost():
            try:
                yield
            finally:
                _flush()
    except BrokenPipeError:
        sys.exit(1)
    except MuscopeError as error:
        _end(str(error), error.status)
    except OSError as error:
        _end(in_words(error), 1)
    except MemoryError as error:
        _end(f"out of memory ({error}); end other programs, or lower the settings' sizes.", 1)
    except Interrupted as stop:
        _end(str(stop), 130)
    except KeyboardInterrupt:
        _end(STOPPED, 130)


def in_words(error: OSError) -> str:
    """What failed, where, and what to do about it."""
    if error.errno is None:
        return str(error)
    place = f"{error.filename}: " if error.filename is not None else ""
    mend = MENDS.get(error.errno, "see that the path is right")
    return f"{place}{error.strerror}; {mend}."


def _end(line: str, status: int) -> None:
    print(f"muscope: {line}", file=sys.stderr)
    sys.exit(status)


def _flush() -> None:
    """Write out what was printed, while an error can still be said.

    Raises:
        OSError: it cannot be written; it names the place.

    """
    if sys.stdout is None:  # It was closed before Python started.
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python tries once more at its end, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OSError(error.errno, error.strerror, "standard output") from error


@contextlib.contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Repeat Ctrl-C where it came while Python was called from code that cannot raise."""
    before = sys.unraisablehook

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is KeyboardInterrupt:
            threading.Timer(0.01, _thread.interrupt_main).start()  # Not in here, lost as well.
        else:
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _insist(number: int, ended: threading.Event) -> bool:
    """End the process if it does not see to Ctrl-C itself, because compiled code runs.

    Files are whole at every moment, and worker processes end when nobody is there any more.
    """
    if number == signal.SIGINT and not ended.wait(PATIENCE):
        say(STOPPED)
        os._exit(130)
    return True
