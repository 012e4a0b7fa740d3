"""What does a run cost beside its steps?

    python -m experiments.throughput.overhead

In one process, in turn: a stretch of the training loop (probe, measures of collapse,
rows, progress), as many bare steps (the program without probe and metrics) fed by the
same data, and as many on one ready batch. Then the delay that a checkpoint causes,
spread over the time between two checkpoints. Prints medians, appends to overhead.jsonl.
Leave the machine otherwise idle.
"""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from byol_bnfree.command_line import exit_on_error, parse_args
from byol_bnfree.files import append_row
from byol_bnfree.flags import cli
from experiments.measuring import check_arguments

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Arguments:
    """Time the training loop, and the bare step for comparison."""

    settings: str = "--norm=gn_ws"
    """Flags of byol_bnfree.train; the default: the main command."""
    steps: int = 200
    """Steps of one measurement."""
    rounds: int = 7
    """Measurements of the loop and of the bare step."""

    def __post_init__(self):
        check_arguments(self)


def main(arguments: Arguments) -> None:
    """Measure in turn, print a table, append to overhead.jsonl."""
    config = parse_args(shlex.split(arguments.settings))
    # After parsing: --help needs no JAX.
    from byol_bnfree.cpu.allocator import run_in_calling_thread
    from byol_bnfree.data.sources import open_source
    from byol_bnfree.training.environment import environment
    from byol_bnfree.training.parts import DataShape
    from byol_bnfree.training.program import build_program
    from experiments.throughput.stretches import measure

    run_in_calling_thread()
    source = open_source(config, "train")
    shape = DataShape(len(source), source.num_classes, source.image_shape)
    program = build_program(config, shape)
    found = measure(program, source, arguments.steps, arguments.rounds)
    table = Table("measure", "median", title=f"layers by {program.kernels}")
    for key, value in found.items():
        table.add_row(key, f"{value:.4g}")
    Console(width=100).print(table)
    row = {"arguments": dataclasses.asdict(arguments), "medians": found}
    row |= {"environment": environment() | {"kernels": program.kernels}}
    append_row(HERE / "overhead.jsonl", row)


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
