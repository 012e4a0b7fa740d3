"""One step of ResNet-50 at batch 4096 on 8, 64 and 512 accelerators, on paper.

    python -m experiments.scaling [--tflops=100 --link-gb=50 ...]

prints the tables of docs/scaling.md for an accelerator of your own description, from
measured.json beside this file: what compiled programs need. `--measure` compiles them
anew, about ten minutes on 2 CPU cores.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.scaling.measure import DEVICES

MEASURED = Path(__file__).with_name("measured.json")
NORMS = "bn", "gn_ws"
BATCH = 4096
GB = 1e9


@dataclass(frozen=True)
class Assumptions:
    """An accelerator, its links, its host and disk. Nothing here was measured."""

    tflops: float = 100.0
    """Peak of a device in its matrix units, 1e12 operations a second."""
    utilization: float = 0.4
    """Part of the peak that a ResNet step reaches."""
    memory_gb: float = 32.0
    """Of a device."""
    link_gb: float = 50.0
    """GB/s that a device sends in an all-reduce."""
    latency_us: float = 5.0
    """Microseconds that a small message takes; an all-reduce takes 2 log2(n)."""
    disk_gb: float = 1.0
    """GB/s that a checkpoint is written at, by all processes together."""
    decoded: float = 100.0
    """Images, each cropped twice, that a host core decodes a second."""
    measure: bool = False
    """Compile the programs anew first; it overwrites measured.json."""


@dataclass(frozen=True)
class Step:
    """One step on n devices. Seconds, bytes; nothing is taken to overlap."""

    norm: str
    devices: int
    compute: float
    gradient: float
    """All-reduce of the gradient, by its bytes."""
    statistics: float
    """BatchNorm's all-reduces, by their number."""
    temporary: float
    """Bytes on a device without micro-batches."""
    micro_batches: int
    """The fewest, a power of two, with which they and the state fit."""

    @property
    def seconds(self) -> float:
        return self.compute + self.gradient + self.statistics


def estimate(
    norm: str, devices: int, found: dict[str, Any], given: Assumptions
) -> Step:
    """What a step takes, from what its compiled program needs."""
    images = BATCH / devices
    flop = found["flop_per_image"] * images + found["flop_constant"]
    moved = found["communication"]["bytes"]
    ring = 2 * (devices - 1) / devices / (given.link_gb * GB)
    messages = found["communication"]["statistics_collectives"]
    hops = 2 * math.log2(devices) * given.latency_us * 1e-6
    temporary = found["temporary_bytes_per_image"] * images
    room = given.memory_gb * GB - found["state_bytes"]
    return Step(
        norm,
        devices,
        compute=flop / (given.tflops * 1e12 * given.utilization),
        gradient=moved["gradient"] * ring,
        statistics=messages * hops + moved.get("batch statistics", 0) * ring,
        temporary=temporary,
        micro_batches=2 ** max(0, math.ceil(math.log2(temporary / room))),
    )


def tables(measured: dict[str, Any], given: Assumptions) -> Iterator[str]:
    """Markdown."""
    steps = [
        estimate(norm, devices, measured[norm], given)
        for devices in DEVICES
        for norm in NORMS
    ]
    yield _needs(measured)
    yield _times(steps)
    yield _memory(steps, measured)
    yield _surroundings(steps, measured, given)


def _needs(measured: dict[str, Any]) -> str:
    rows = [("", *NORMS)]
    for title, key, unit in (
        ("operations for an image, GFLOP", "flop_per_image", GB),
        (
            "bytes that XLA's operations access for an image, GB",
            "bytes_accessed_per_image",
            GB,
        ),
        ("temporary memory for an image, MB", "temporary_bytes_per_image", 1e6),
        ("state: parameters, target, momentum, statistics, MB", "state_bytes", 1e6),
        ("gradient, MB", "gradient_bytes", 1e6),
    ):
        rows.append((title, *(f"{measured[n][key] / unit:,.1f}" for n in NORMS)))
    found = [measured[n]["communication"] for n in NORMS]
    rows.append(("collectives", *(str(x["collectives"]) for x in found)))
    rows.append(
        (
            "of these for batch statistics",
            *(str(x["statistics_collectives"]) for x in found),
        )
    )
    names = sorted({name for x in found for name in x["bytes"]})
    for name in names:
        sizes = (x["bytes"].get(name, 0) / 1e6 for x in found)
        rows.append((f"bytes all-reduced, {name}, MB", *(f"{s:,.3f}" for s in sizes)))
    return _markdown(rows)


def _times(steps: list[Step]) -> str:
    rows = [
        (
            "devices",
            "norm",
            "images on a device",
            "compute, ms",
            "gradient, ms",
            "statistics, ms",
            "of the step",
        )
    ]
    for s in steps:
        milliseconds = (1e3 * x for x in (s.compute, s.gradient, s.statistics))
        rows.append(
            (
                str(s.devices),
                s.norm,
                str(BATCH // s.devices),
                *(f"{x:.1f}" for x in milliseconds),
                f"{s.statistics / s.seconds:.1%}",
            )
        )
    return _markdown(rows)


def _memory(steps: list[Step], measured: dict[str, Any]) -> str:
    rows = [
        (
            "devices",
            "norm",
            "state, replicated, MB",
            "state, sharded, MB",
            "temporary, GB",
            "micro-batches that fit",
        )
    ]
    for s in steps:
        found = measured[s.norm]
        sharded = found["sharded_state_bytes"][DEVICES.index(s.devices)]
        rows.append(
            (
                str(s.devices),
                s.norm,
                f"{found['state_bytes'] / 1e6:.0f}",
                f"{sharded / 1e6:.0f}",
                f"{s.temporary / GB:.1f}",
                str(s.micro_batches),
            )
        )
    return _markdown(rows)


def _surroundings(
    steps: list[Step], measured: dict[str, Any], given: Assumptions
) -> str:
    rows = [
        (
            "devices",
            "norm",
            "images/s",
            "of each device",
            "host cores that decode",
            "checkpoint, s",
        )
    ]
    for s in steps:
        rate = BATCH / s.seconds
        seconds = measured[s.norm]["state_bytes"] / (given.disk_gb * GB)
        rows.append(
            (
                str(s.devices),
                s.norm,
                f"{rate:,.0f}",
                f"{rate / s.devices:,.0f}",
                f"{math.ceil(rate / given.decoded):,}",
                f"{seconds:.1f}",
            )
        )
    return _markdown(rows)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *body])


def measure() -> None:
    """Compile, in processes of their own, and keep what they found."""
    measured = {}
    for norm in NORMS:
        found = _printed_by("experiments.scaling.measure", f"--norm={norm}")
        module = "byol_bnfree.verification.communication"
        found["communication"] = _printed_by(module, "resnet50", norm, "1", devices=8)
        measured[norm] = found
    MEASURED.write_text(json.dumps(measured, indent=1) + "\n")


def _printed_by(module: str, *arguments: str, devices: int = 1) -> dict[str, Any]:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        # Compiles sooner; what the analysis reads is made before code generation.
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    print(f"{module} {' '.join(arguments)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", module, *arguments]
    return json.loads(subprocess.check_output(command, env=environment))


def main(given: Assumptions) -> None:
    """Print the tables; see `Assumptions`."""
    if given.measure:
        measure()
    measured = json.loads(MEASURED.read_text())
    print(*tables(measured, given), sep="\n\n")


if __name__ == "__main__":
    main(tyro.cli(Assumptions))
