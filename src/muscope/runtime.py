"""JAX set-up: the persistent compilation cache and one CPU device per core.

Called before any work starts.  Both settings are defaults: whatever the user has set
already, in the environment or in code, is respected.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from muscope.errors import ConfigError

AGENTS = "agents"
"""The mesh axis that populations are split over."""


def cache_directory() -> Path:
    """Where compiled programs are kept: $MUSCOPE_CACHE, or the user's cache folder."""
    base = os.environ.get("MUSCOPE_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muscope"


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS and Windows.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare() -> None:
    """Turn the compilation cache on, and let populations use every CPU core.

    Starts no device, so it is cheap.

    Raises:
        ConfigError: JAX is set to compute in float64.

    """
    if jax.config.jax_enable_x64:
        raise ConfigError(
            "muscope computes in float32, but JAX is set to float64; unset JAX_ENABLE_X64 "
            "(or jax_enable_x64 in your own code)."
        )
    _set_defaults()


@functools.cache
def _set_defaults() -> None:
    """XLA runs one program per device; a population's small operations do not spread over
    cores by themselves, so each core becomes a device and takes a share of the agents.
    """
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    forced = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not forced and jax.config.jax_num_cpu_devices == -1:
        # JAX refuses once it has started; then the user's own set-up stands.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", min(cores(), 8))


def start() -> None:
    """:func:`prepare`, and start the devices; call it before the first computation.

    Raises:
        ConfigError: JAX cannot start the devices that it is asked for.

    """
    prepare()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        # Of a missing CUDA device JAX says nothing; its own mend is left out.
        reason = " ".join(str(error).partition("(set JAX_PLATFORMS")[0].split())
        asked = jax.config.jax_platforms
        which = f"JAX_PLATFORMS={asked}" if asked else "its devices"
        raise ConfigError(
            f"JAX cannot start {which}: {reason.rstrip('.') or 'there is no such device'}; "
            f"{'unset JAX_PLATFORMS' if asked else 'set JAX_PLATFORMS=cpu'}, or install what the "
            "device needs (the extra [cuda] for NVIDIA's GPUs)."
        ) from error


def devices() -> str:
    """How many devices share a population's agents here, in words: ``2 cpu``."""
    local = jax.local_devices()
    return f"{len(local)} {local[0].platform}"


def agents_mesh(agents: int, devices: list[jax.Device] | None = None) -> Mesh:
    """As many of the local devices as divide the number of agents."""
    devices = jax.local_devices() if devices is None else devices
    count = max(n for n in range(1, len(devices) + 1) if agents % n == 0)
    return Mesh(np.array(devices[:count]), (AGENTS,))


def filled_up(agents: int, devices: list[jax.Device] | None = None) -> int:
    """How many agents a program runs so that each device has equally many, and as few as can be.

    Five on four cores are six, two on each of three; those beyond the five repeat the last.
    """
    count = len(jax.local_devices() if devices is None else devices)
    each = -(-agents // count)
    return each * -(-agents // each)


def map_agents(
    of_one: Callable[..., Any],
    mesh: Mesh,
    per_agent: int,
    donate: bool = False,
    in_turn: bool = False,
) -> Callable[..., Any]:
    """Compile one agent's function for a population.

    Args:
        of_one: function of one agent; its first ``per_agent`` arguments differ between
            agents, the rest are shared by all.
        mesh: from :func:`agents_mesh`; agents are split over it and never communicate.
        per_agent: arguments with a leading [P] axis.
        donate: give the first argument's memory to the result.
        in_turn: a device runs its agents one after the other instead of side by side.

    """

    def together(*arguments: Any) -> Any:
        agents, shared = arguments[:per_agent], arguments[per_agent:]
        if in_turn and jax.tree.leaves(agents)[0].shape[0] > 1:
            return jax.lax.map(lambda agent: of_one(*agent, *shared), agents)
        return jax.vmap(of_one, in_axes=(0,) * per_agent + (None,) * len(shared))(*arguments)

    def call(*arguments: Any) -> Any:
        specs = tuple(
            PartitionSpec(AGENTS) if i < per_agent else PartitionSpec()
            for i in range(len(arguments))
        )
        return jax.shard_map(
            together,
            mesh=mesh,
            in_specs=specs,
            out_specs=PartitionSpec(AGENTS),
            check_vma=False,
        )(*arguments)

    return jax.jit(call, donate_argnums=0 if donate else ())
