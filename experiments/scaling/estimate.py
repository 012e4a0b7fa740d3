"""The time of a step on n devices, from the needs of its compiled program."""

import math
from dataclasses import dataclass
from typing import Any

GB = 1e9


@dataclass(frozen=True)
class Machine:
    """Accelerators, their links, hosts and disk: assumptions, none was measured."""

    tflops: float = 100.0
    """Peak of a device in its matrix units, 1e12 operations a second."""
    utilization: float = 0.4
    """Part of the peak that a ResNet step reaches."""
    memory_gb: float = 32.0
    """Memory of a device."""
    link_gb: float = 50.0
    """GB/s that a device sends in an all-reduce."""
    latency_us: float = 5.0
    """Microseconds that a small message takes; an all-reduce takes 2 log2(n)."""
    disk_gb: float = 1.0
    """GB/s that a checkpoint is written at, by all processes together."""
    decoded: float = 100.0
    """Images, each cropped twice, that a host core decodes a second."""


@dataclass(frozen=True)
class Step:
    """One step on n devices. Seconds, bytes; nothing is taken to overlap."""

    norm: str
    devices: int
    images: int
    """On a device."""
    compute: float
    gradient: float
    """All-reduce of the gradient, by its bytes."""
    statistics: float
    """BatchNorm's all-reduces, by their number."""
    state: int
    """Bytes of the whole state."""
    sharded: int
    """Bytes of a device's part of it under --shard-state."""
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
        """Images a second of all devices."""
        return self.images * self.devices / self.seconds


def estimate(
    norm: str, devices: int, batch_size: int, found: dict[str, Any], machine: Machine
) -> Step:
    """`found` is what `measure` and the collectives of `claims` found."""
    images = batch_size // devices
    flop = found["flop_per_image"] * images + found["flop_constant"]
    moved = found["communication"]["bytes"]
    ring = 2 * (devices - 1) / devices / (machine.link_gb * GB)
    messages = found["communication"]["statistics_collectives"]
    hops = 2 * math.log2(devices) * machine.latency_us * 1e-6
    temporary = found["temporary_bytes_per_image"] * images
    room = machine.memory_gb * GB - found["state_bytes"]
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
