"""The tables of docs/scaling.md."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from experiments.pages.blocks import Table
from experiments.scaling.estimate import GB, Machine, Step

MB = 1e6
NEEDS = (
    ("operations for an image, GFLOP", "flop_per_image", GB),
    ("bytes that XLA accesses for an image, GB", "bytes_accessed_per_image", GB),
    ("temporary memory for an image, MB", "temporary_bytes_per_image", MB),
    ("state: parameters, target, momentum, statistics, MB", "state_bytes", MB),
    ("gradient, MB", "gradient_bytes", MB),
)
Columns = dict[str, Callable[[Step], str]]


def tables(
    measured: dict[str, Any], steps: Sequence[Step], machine: Machine
) -> Iterator[Table]:
    """The needs of the programs, then time, memory and surroundings of each step."""
    yield needs(measured)
    yield _of_steps(
        steps,
        {
            "images on a device": lambda s: str(s.images),
            "compute, ms": lambda s: f"{1e3 * s.compute:.1f}",
            "gradient, ms": lambda s: f"{1e3 * s.gradient:.1f}",
            "statistics, ms": lambda s: f"{1e3 * s.statistics:.1f}",
            "of the step": lambda s: f"{s.statistics / s.seconds:.1%}",
        },
    )
    yield _of_steps(
        steps,
        {
            "state, replicated, MB": lambda s: f"{s.state / MB:.0f}",
            "state, sharded, MB": lambda s: f"{s.sharded / MB:.0f}",
            "temporary, GB": lambda s: f"{s.temporary / GB:.1f}",
            "fewest micro-batches that fit": lambda s: str(s.micro_batches),
        },
    )
    yield _of_steps(
        steps,
        {
            "images/s": lambda s: f"{s.rate:,.0f}",
            "of each device": lambda s: f"{s.rate / s.devices:,.0f}",
            "host cores that decode": lambda s: (
                f"{math.ceil(s.rate / machine.decoded):,}"
            ),
            "checkpoint, s": lambda s: f"{s.state / (machine.disk_gb * GB):.1f}",
        },
    )


def needs(measured: dict[str, Any]) -> Table:
    """Operations, bytes and collectives of each norm's program."""
    arms = list(measured.values())
    moved = [arm["communication"] for arm in arms]
    rows = [
        (title, *(f"{arm[key] / unit:,.1f}" for arm in arms))
        for title, key, unit in NEEDS
    ]
    for title, key in (
        ("collectives", "collectives"),
        ("collectives for batch statistics", "statistics_collectives"),
    ):
        rows.append((title, *(str(m[key]) for m in moved)))
    for name in sorted({name for m in moved for name in m["bytes"]}):
        sizes = (m["bytes"].get(name, 0) / MB for m in moved)
        rows.append((f"bytes all-reduced, {name}, MB", *(f"{s:,.3f}" for s in sizes)))
    return Table(("", *measured), rows)


def _of_steps(steps: Sequence[Step], columns: Columns) -> Table:
    rows = [
        (str(s.devices), s.norm, *(column(s) for column in columns.values()))
        for s in steps
    ]
    return Table(("devices", "norm", *columns), rows, words=(0, 1))
