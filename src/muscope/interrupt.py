"""Ctrl-C heard at once: Python's own handlers wait until compiled code has returned."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

Listener = Callable[[int, threading.Event], bool]
"""Gets a signal's number and the event that the block has ended, in a thread of its own; returns
whether the listeners of the blocks around it need not hear of it."""

_listeners: list[Listener] = []  # the innermost block's last


@contextlib.contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """Call a listener as soon as a signal comes that Python handles, whatever the main thread does.

    Outside the main thread, where signals do not come, nobody is called.
    """
    receiving, sending = socket.socketpair()
    with receiving, sending:
        sending.setblocking(False)
        try:
            before = signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
        except ValueError:  # Not the main thread.
            yield
            return
        ended = threading.Event()
        chain = [*_listeners, listener]
        thread = threading.Thread(target=_listen, args=(receiving, chain, ended), daemon=True)
        _listeners.append(listener)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            _listeners.pop()
            signal.set_wakeup_fd(before)
            sending.shutdown(socket.SHUT_WR)
            thread.join()


def _listen(receiving: socket.socket, chain: list[Listener], ended: threading.Event) -> None:
    while numbers := receiving.recv(1):
        for listener in reversed(chain):
            if listener(numbers[0], ended):
                break
