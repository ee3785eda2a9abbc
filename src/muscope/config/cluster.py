"""Settings of a study's runner on a Ray cluster; no result depends on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from muscope.config.base import Settings, within


@dataclass(frozen=True)
class RayConfig(Settings):
    """How jobs are given to Ray."""

    section = "ray"

    address: str = ""
    """The cluster's, as ``ray start`` tells it, or auto; empty starts Ray on this machine for the
    time of the study."""
    cpus_per_job: Annotated[float, *within(0.0, 1_000.0)] = 1.0
    """CPU cores that a job asks of Ray; as many jobs run at once as there are."""
    gpus_per_job: Annotated[float, *within(0.0, 1_000.0)] = 0.0
    """GPUs that a job asks of Ray; a fraction shares one."""
    attempts: Annotated[int, *within(1, 100)] = 3
    """How often a job is tried whose worker or node dies."""
    transfer: bool = False
    """Whether files travel through Ray, for clusters without a disk that all nodes see.  A block
    whose worker dies then starts over, because its state lay on the worker's disk."""
