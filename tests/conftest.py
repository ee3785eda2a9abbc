"""Shapes are checked by jaxtyping and beartype (pyproject.toml turns them on)."""

import gc
import os
import shutil
import signal
from pathlib import Path

import jax
import pytest
from filelock import FileLock
from tiny import tiny_config

import muscope
from muscope import runtime
from muscope.config import Config
from muscope.experiments import registry

# Files that take minutes, the longest first: begun last, one would keep one worker busy alone.
LONG = (
    *("lunar_lander_lanes", "lunar_lander_bits", "lunar_lander_world", "breakout_run", "cluster"),
    *("examples", "planning", "damage", "surroundings", "mutations", "health", "blocks"),
)

# What files that begin so say is of the bits or the times that a user gets, or of processes that
# are started and compile as a user's do.
AS_USERS_COMPILE = ("cluster", "foreign_wrappers", "lunar_lander", "plan", "population")

# A suite that is started in the background is deaf to Ctrl-C, and so would be all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Two simulated devices: populations are split over them as they would be over GPUs.
jax.config.update("jax_num_cpu_devices", 2)
runtime.prepare()
# Even the smallest programs are compiled once for all modules and workers.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def pytest_collection_modifyitems(items):
    """Long files first; all others keep their order."""

    def place(item):
        name = item.path.stem.removeprefix("test_")
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=place)


@pytest.fixture(scope="module", autouse=True)
def programs_of_one_module(request):
    """Most are compiled without optimisation: XLA's compiler is four fifths of the suite's time.

    They are dropped after each module: a process that keeps Lunar Lander's runs out of memory maps
    (see :data:`muscope.experiments.lab.MAPS`).
    """
    name = request.path.stem.removeprefix("test_")
    jax.config.update("jax_disable_most_optimizations", not name.startswith(AS_USERS_COMPILE))
    yield
    gc.collect()
    jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def experiments_of_one_module():
    """What a module makes known to its process is not run by the studies of the next one."""
    before = dict(registry._added)
    yield
    registry._added.clear()
    registry._added.update(before)


@pytest.fixture(scope="session")
def studied_once(tmp_path_factory) -> Path:
    """A whole study of ``tiny``, made by whichever worker comes first."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path, made = shared / "whole-study", shared / "whole-study.made"
    with FileLock(shared / "whole-study.lock"):
        if not made.exists():
            muscope.study(tiny_config(), path)
            made.touch()
    return path


@pytest.fixture(scope="module")
def tiny_study(studied_once, tmp_path_factory):
    """A module's own copy of it."""
    path = tmp_path_factory.mktemp("study") / "run"
    shutil.copytree(studied_once, path)
    return muscope.open_run(path)


@pytest.fixture
def tiny() -> Config:
    """A whole run in seconds; far too small to learn anything."""
    return tiny_config()


@pytest.fixture(scope="module")
def module_tiny() -> Config:
    """The same, for fixtures that a whole module shares."""
    return tiny_config()
