"""Finds settings at which the step suddenly becomes slow.

    python -m experiments.throughput.cliffs

It changes one setting at a time of a small network, and compares the step's operations
per second with those of the neighbouring settings. None should be below half. Results
are added to cliffs.jsonl. This takes about ten minutes on 2 CPU cores, which must be
idle otherwise.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.table import Table

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import HeadConfig, ModelConfig, TrainConfig
from byol_bnfree.files import append_row
from byol_bnfree.flags import cli
from experiments.measuring import check_arguments
from experiments.throughput.workloads import NORMS, Workload, config_for

HERE = Path(__file__).parent
HEAD = HeadConfig(hidden=512, out=128)
MODEL = ModelConfig(name="resnet8", stem="small", projector=HEAD, predictor=HEAD)
PIXELS, BATCH = 32, 64
MODELS = {  # changes of the network
    "width": [{"width": width} for width in (0.25, 0.5, 1.0, 2.0, 4.0)],
    "stem": [
        {"stem": "small", "stem_stride": 1},
        {"stem": "small", "stem_stride": 2},
        {"stem": "imagenet", "stem_stride": 1},
    ],
    "depth": [{"name": name} for name in ("resnet8", "resnet14", "resnet20")],
}
OTHERS = {
    "image_size": [{"image_size": size} for size in (8, 12, 16, 24, 32, 48, 64)],
    "batch_size": [{"batch_size": size} for size in (4, 16, 64, 256)],
    "micro_batches": [{"micro_batches": count} for count in (1, 2, 4, 8)],
}


@dataclass(frozen=True)
class Arguments:
    """Time the step while one setting at a time is changed."""

    axes: tuple[Literal[(*MODELS, *OTHERS)], ...] = (*MODELS, *OTHERS)
    """Settings to change, one at a time."""
    convolution: Literal["auto", "xla", "onednn"] = "auto"
    """As --run.convolution."""
    seconds: float = 3.0
    """Length of each timing."""

    def __post_init__(self):
        check_arguments(self)


class Point(NamedTuple):
    """A setting on an axis."""

    axis: str
    setting: str
    norm: str
    gflop_per_s: float
    of_neighbour: float = 1.0
    """Over the faster of the settings beside it."""
    kernels: str = ""
    """The library that computed the layers."""


def main(arguments: Arguments) -> None:
    """Measure, print a table with the lowest first, append to cliffs.jsonl."""
    # After parsing: --help needs no JAX.
    from byol_bnfree.cpu.allocator import run_in_calling_thread
    from byol_bnfree.training.environment import environment

    run_in_calling_thread()
    points = []
    for axis in arguments.axes:
        for norm in NORMS:
            line = list(_measure(axis, norm, arguments))
            points += beside_neighbours(line)
    points.sort(key=lambda point: point.of_neighbour)
    table = Table(*Point._fields, title="operations per second of one training step")
    for point in points:
        rate, ratio = f"{point.gflop_per_s:.1f}", f"{point.of_neighbour:.2f}"
        table.add_row(*point[:3], rate, ratio, point.kernels)
    Console(width=100).print(table)
    row = {
        "arguments": dataclasses.asdict(arguments),
        "points": [point._asdict() for point in points],
        "environment": environment(),
    }
    append_row(HERE / "cliffs.jsonl", row)


def _measure(axis: str, norm: str, arguments: Arguments) -> Iterator[Point]:
    for change in MODELS.get(axis) or OTHERS[axis]:
        rate, kernels = _rate(norm, change, axis in MODELS, arguments)
        setting = " ".join(str(value) for value in change.values())
        print(f"{axis} {setting} {norm}: {rate:.1f} GFLOP/s", flush=True)
        yield Point(axis, setting, norm, rate, kernels=kernels)


def _rate(
    norm: str, change: dict[str, Any], of_model: bool, arguments: Arguments
) -> tuple[float, str]:
    """GFLOP/s of a step, and what computed its layers."""
    from byol_bnfree.training.parts import DataShape
    from byol_bnfree.training.program import build_program
    from experiments.throughput.measure import (
        PASSES,
        forward_flops,
        ready_views,
        time_step,
    )

    model = dataclasses.replace(MODEL, **change) if of_model else MODEL
    rest = {} if of_model else dict(change)
    pixels = rest.pop("image_size", PIXELS)
    if norm == "bn":  # whose micro-batches are exact under as many groups
        rest["bn_stat_groups"] = rest.get("micro_batches", 1)
    recipe = TrainConfig(norm=norm, model=model, **{"batch_size": BATCH, **rest})
    config = config_for(Workload(pixels, recipe), norm, arguments.convolution, False)
    program = build_program(config, DataShape(50_000, 10, (pixels, pixels, 3)))
    batch = ready_views(config.batch_size, pixels)
    rate = time_step(program, lambda: batch, arguments.seconds).images_per_s
    return rate * PASSES * forward_flops(program) / 1e9, program.kernels


def beside_neighbours(line: Sequence[Point]) -> list[Point]:
    """The points of one axis, each over the faster of those beside it."""
    found = []
    for index, point in enumerate(line):
        beside = [*line[max(index - 1, 0) : index], *line[index + 1 : index + 2]]
        fastest = max(other.gflop_per_s for other in beside)
        found.append(point._replace(of_neighbour=point.gflop_per_s / fastest))
    return found


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
