"""Rates that are estimated from a device's peaks, without running anything on it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from muscope import envs
from muscope.agent import networks
from muscope.config import Config
from muscope.errors import ConfigError, nearest
from muscope.experiments.cost import Steps, seconds_per_step, simulated
from muscope.forecast.parts import Sized, form, sizes
from muscope.forecast.rates import Compiling, Rate, Rates
from muscope.room import nbytes
from muscope.work import Kind

FLOAT = 4  # bytes
SHARE = 0.35
"""Of the peaks, which programs like ours reach: a third to a half (benchmarks/README.md)."""
KERNELS = {"simulation": 60, "update": 150, "environment": 60, "reset": 60}
"""That a call starts at least, besides those of products and convolutions; of networks 10."""


class Device(NamedTuple):
    """What a maker says of a device."""

    name: str
    flops: float
    """Operations a second in float32, without tensor cores."""
    bandwidth: float
    """Bytes a second."""
    memory: float
    """Bytes."""
    source: str


GPUS = {
    "t4": Device("NVIDIA T4", 8.1e12, 0.32e12, 16e9, "NVIDIA T4 data sheet, 2019"),
    "l4": Device("NVIDIA L4", 30.3e12, 0.3e12, 24e9, "NVIDIA L4 data sheet, 2023"),
    "v100": Device("NVIDIA V100 SXM2", 15.7e12, 0.9e12, 32e9, "NVIDIA V100 data sheet, 2020"),
    "a100": Device("NVIDIA A100 SXM", 19.5e12, 2.039e12, 80e9, "NVIDIA A100 data sheet, 2021"),
    "h100": Device("NVIDIA H100 SXM", 67e12, 3.35e12, 80e9, "NVIDIA H100 data sheet, 2023"),
    "h200": Device("NVIDIA H200 SXM", 67e12, 4.8e12, 141e9, "NVIDIA H200 data sheet, 2024"),
    "rtx3090": Device(
        "NVIDIA RTX 3090", 35.6e12, 0.936e12, 24e9, "NVIDIA Ampere GA102 white paper, 2020"
    ),
    "rtx4090": Device("NVIDIA RTX 4090", 82.6e12, 1.008e12, 24e9, "NVIDIA Ada white paper, 2022"),
}
LAUNCH = 5e-6  # s that a GPU takes for a kernel, however small.

CORE = Device("one CPU core", 200e9, 60e9, 0.0, "two cores of an AMD EPYC with AVX-512")
"""What a core did in calibrations, divided by :data:`SHARE`; for first guesses only."""
CORE_LAUNCH = 0.15e-6  # s, likewise
TRACING, COMPILING = 1e-3, 5e-3  # s an equation, likewise
MANY_EQUATIONS, OF_MANY = 2_000, 0.1
"""Equations beyond so many take this share: large programs repeat themselves."""


def gpu(name: str) -> Device:
    """A device of the table.

    Raises:
        ConfigError: it is not there.

    """
    key = name.lower().replace("-", "").replace(" ", "").removeprefix("nvidia")
    if key not in GPUS:
        raise ConfigError(f"unknown GPU '{name}'; known are {', '.join(GPUS)}.{nearest(key, GPUS)}")
    return GPUS[key]


def on_gpu(config: Config, device: Device) -> Rates:
    """Rates of one GPU, by its peaks and the launches of its kernels; nobody has measured them.

    Simulators on the host stay where they are: their steps are measured here.
    """
    told = f"ESTIMATED for one {device.name}, never measured ({device.source})"
    return _rates(config, device, LAUNCH, 1, told, in_turn=False, measure=True)


def at_a_guess(config: Config, devices: int) -> Rates:
    """Rates of this machine before anything is compiled, as if its cores were those that the
    constants above come from.
    """
    in_turn = networks.in_turn(config.network, jax.default_backend())
    told = "a first guess, not calibrated"
    return _rates(config, CORE, CORE_LAUNCH, devices, told, in_turn=in_turn, measure=False)


HOST_STEP = 0.3e-3  # s of a step in a simulator on the host, at a guess


def _rates(
    config: Config,
    device: Device,
    launch: float,
    devices: int,
    told: str,
    *,
    in_turn: bool,
    measure: bool,
) -> Rates:
    environment: Any = envs.make(config.environment)
    of_kind = sizes(config, environment)
    parameters = nbytes(form(config, environment))
    rates = {kind: _rate(kind, size, device, launch, parameters) for kind, size in of_kind.items()}
    on_host, share = simulated(environment) is not None, 1.0
    if on_host:
        each = Steps(HOST_STEP, HOST_STEP)
        if measure:
            each = seconds_per_step(environment, config.evaluate.truth)
        share = each.given / each.stepped
        rates["environment"] = Rate(0.0, each.stepped)
        rates["reset"] = Rate()
    first = {
        kind: Compiling(TRACING * _told(size.equations), COMPILING * _told(size.equations))
        for kind, size in of_kind.items()
    }
    return Rates(told, rates, first, devices, on_host, share, in_turn)


def _told(equations: int) -> float:
    return min(float(equations), MANY_EQUATIONS + OF_MANY * max(equations - MANY_EQUATIONS, 0))


def _rate(kind: Kind, size: Sized, device: Device, launch: float, parameters: int) -> Rate:
    """Arithmetic or memory, whichever takes longer, and the launches."""
    arithmetic = size.operations / (SHARE * device.flops)
    # Every operation's output is written and read, but for what is fused: about half.
    memory = size.outputs / (SHARE * device.bandwidth)
    networks_too = kind in ("encoding", "model", "prediction", "update")
    reading = (
        (8 if kind == "update" else 1) * parameters / device.bandwidth if networks_too else 0.0
    )
    kernels = KERNELS.get(kind, 10) + 3 * size.kernels
    return Rate(kernels * launch + reading, max(arithmetic, memory))
