"""Where the command ``muscope`` and ``python -m muscope`` start."""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130  # the exit status of what Ctrl-C has ended


def main() -> None:
    """The command line, see :mod:`muscope.cli`; Ctrl-C ends it quietly from the first moment."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as under nohup
    if not ignored:
        signal.signal(signal.SIGINT, _leave)
    from muscope import cli  # It takes seconds, and so does what it imports.

    if not ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli.main()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            os._exit(INTERRUPTED)  # Compiled code may still run, and Python's own end would crash.
        raise


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process: an exception might get lost in somebody's import."""
    os.write(2, b"muscope: stopped; nothing was begun.\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
