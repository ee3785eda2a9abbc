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

AGENTS = "agents"
"""The mesh axis that populations are split over."""


def cache_directory() -> Path:
    """Where compiled programs are kept: $MUSCOPE_CACHE, or the user's cache folder."""
    base = os.environ.get("MUSCOPE_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muscope"


@functools.cache
def prepare() -> None:
    """Turn the compilation cache on, and let populations use every CPU core.

    XLA runs one program per device; a population's small operations do not spread over
    cores by themselves, so each core becomes a device and takes a share of the agents.
    """
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    forced = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not forced and jax.config.jax_num_cpu_devices == -1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        # JAX refuses once it has started; then the user's own set-up stands.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", min(cores, 8))


def agents_mesh(agents: int, devices: list[jax.Device] | None = None) -> Mesh:
    """As many of the local devices as divide the number of agents."""
    devices = jax.local_devices() if devices is None else devices
    count = max(n for n in range(1, len(devices) + 1) if agents % n == 0)
    return Mesh(np.array(devices[:count]), (AGENTS,))


def over_agents(
    one: Callable[..., Any], mesh: Mesh, per_agent: int, donate: bool = False
) -> Callable[..., Any]:
    """Compile ``one`` agent's function for a population.

    Args:
        one: function of one agent; its first ``per_agent`` arguments differ between
            agents, the rest are shared by all.
        mesh: from :func:`agents_mesh`; agents are split over it and never communicate.
        per_agent: arguments with a leading [P] axis.
        donate: give the first argument's memory to the result.

    """

    def call(*arguments: Any) -> Any:
        axes = tuple(0 if i < per_agent else None for i in range(len(arguments)))
        specs = tuple(PartitionSpec(AGENTS) if a == 0 else PartitionSpec() for a in axes)
        return jax.shard_map(
            jax.vmap(one, in_axes=axes),
            mesh=mesh,
            in_specs=specs,
            out_specs=PartitionSpec(AGENTS),
            check_vma=False,
        )(*arguments)

    return jax.jit(call, donate_argnums=0 if donate else ())
