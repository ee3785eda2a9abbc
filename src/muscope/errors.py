"""Errors a user can cause; each message names the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MuscopeError(Exception):
    """Base of every error that bad input raises; its message is one line."""

    status = 1
    """With which a command ends that it stops."""

    def __init__(self, message: object = ""):
        super().__init__(" ".join(str(message).splitlines()))


class ConfigError(MuscopeError):
    """An unknown key, a value of the wrong type, or an impossible combination."""


class FlagError(ConfigError):
    """An unknown flag, or a value that cannot be read."""

    status = 2


class RunError(MuscopeError):
    """A run directory that is missing, busy, or belongs to other settings."""


class BusyError(RunError):
    """Another process holds what is needed; the same may work later."""


class CheckpointError(MuscopeError):
    """A checkpoint that is missing, torn, or not one of ours."""


class DivergedError(MuscopeError):
    """Training met numbers that are not finite and cannot go on."""


class JobError(MuscopeError):
    """Jobs of a study, or variants of a sweep, that failed, while the others went on."""


class FigureError(MuscopeError):
    """A user's figure that failed; what it had made before is kept."""


class HostError(MuscopeError):
    """A simulator on the host that failed, or whose worker processes keep dying."""


class MemoryShortage(MuscopeError):
    """Something took more memory than there is."""


class Interrupted(Exception):
    """Work was asked to stop, and has saved what it needs to go on."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest known word, or the list of all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else f" Known: {', '.join(known)}."
