"""Estimates the time of a step on n devices, from its compiled program."""

import math
from dataclasses import dataclass
from typing import Any

from byol_bnfree.errors import InputError
from experiments.measuring import check_arguments

GB = 1e9  # bytes
DEVICES = 8, 64, 512
"""Numbers of devices in the tables."""


@dataclass(frozen=True)
class Machine:
    """Accelerators, links, hosts and disk. None of it was measured here."""

    tflops: float = 989.0
    """Rate of a device's bfloat16 matrix products, in 1e12 operations per second; that
    of an H100 by its data sheet."""
    utilization: float = 0.17
    """Share of this rate that a step reaches; from MLPerf's time for supervised
    training of ResNet-50 on H100s (docs/scaling.md)."""
    memory_gb: float = 80.0
    """Memory of a device; that of an H100 by its data sheet."""
    link_gb: float = 50.0
    """Rate at which a device sends in an all-reduce, GB/s."""
    latency_us: float = 5.0
    """Latency of a small message, microseconds. An all-reduce takes 2 log2(n)."""
    disk_gb: float = 1.0
    """Rate at which all processes together write a checkpoint, GB/s."""
    decoded: float = 100.0
    """Images per second that a host core decodes and crops twice."""

    def __post_init__(self):
        check_arguments(self)
        if self.utilization > 1:
            raise InputError(
                f"--utilization is {self.utilization:g}; it is a share of the rate, so "
                f"give at most 1."
            )


@dataclass(frozen=True)
class Step:
    """One step on n devices, in seconds and bytes. Nothing overlaps."""

    norm: str
    devices: int
    images: int
    """Seconds of computing on a device."""
    compute: float
    gradient: float
    """Seconds of the gradient's all-reduce, from its bytes."""
    statistics: float
    """Seconds of BatchNorm's all-reduces, from their number."""
    state: int
    """Bytes of the whole state."""
    sharded: int
    """Bytes of one device's part of the state under --shard-state."""
    temporary: float
    """Bytes on a device without micro-batches."""
    micro_batches: int
    """The fewest, a power of two, with which they and the whole state fit."""

    @property
    def seconds(self) -> float:
        """Seconds of the step."""
        return self.compute + self.gradient + self.statistics

    @property
    def rate(self) -> float:
        """Images per second on all devices together."""
        return self.images * self.devices / self.seconds


def estimate(
    norm: str, devices: int, batch_size: int, found: dict[str, Any], machine: Machine
) -> Step:
    """`found` is what `measure` and the collectives of `claims` found.

    Raises:
      InputError: if the state does not fit on a device.
    """
    images = batch_size // devices
    flop = found["flop_per_image"] * images + found["flop_constant"]
    moved = found["communication"]["bytes"]
    ring = 2 * (devices - 1) / devices / (machine.link_gb * GB)
    messages = found["communication"]["statistics_collectives"]
    hops = 2 * math.log2(devices) * machine.latency_us * 1e-6
    temporary = found["temporary_bytes_per_image"] * images
    room = machine.memory_gb * GB - found["state_bytes"]
    if room <= 0:
        raise InputError(
            f"--memory-gb is {machine.memory_gb:g}, but the state takes "
            f"{found['state_bytes'] / GB:.2g}; give more."
        )
    return Step(
        norm,
        devices,
        images,
        compute=flop / (machine.tflops * 1e12 * machine.utilization),
        gradient=moved["gradient"] * ring,
        statistics=messages * hops + moved.get("batch statistics", 0) * ring,
        state=found["state_bytes"],
        sharded=found["sharded_state_bytes"][str(devices)],
        temporary=temporary,
        micro_batches=2 ** max(0, math.ceil(math.log2(temporary / room))),
    )
