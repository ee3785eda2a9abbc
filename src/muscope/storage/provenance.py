"""What made a file: versions, the git revision where there is one, and the machine's kind."""

from __future__ import annotations

import contextlib
import functools
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from muscope.version import __version__


@functools.cache
def provenance() -> dict[str, str]:
    """Muscope's version and git revision, JAX's version, Python's, and the platform."""
    return {
        "muscope": __version__,
        "revision": _revision(),
        "jax": version("jax"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


@functools.cache
def processor() -> str:
    """The processor's name, on whose kind the last bits of floating-point results may depend."""
    with contextlib.suppress(OSError):  # Not on Linux.
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _revision() -> str:
    """The commit of the checkout that muscope runs from, '+' behind it if files differ from it;
    empty where it is installed without one.
    """
    package = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "version.py")  # Not a checkout of something else.
        changed = git("status", "--porcelain", "--untracked-files=no", ".")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
