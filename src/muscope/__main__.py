"""Where the command ``muscope`` and ``python -m muscope`` start."""

from __future__ import annotations

import os
import signal
from types import FrameType


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
    finally:
        if not ignored:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own end has no handler.


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process: an exception might get lost in somebody's import."""
    os.write(2, b"muscope: stopped; nothing was begun.\n")
    os._exit(130)


if __name__ == "__main__":
    main()
