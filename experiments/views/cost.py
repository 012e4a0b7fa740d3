"""Time and memory of a step by its views, over those of two views.

    python -m experiments.views.cost

Rounds are interleaved, so other work on the machine slows all cases alike. Prints a
table and writes cost.json.
"""

import dataclasses
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import Norm
from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded, write_atomically
from byol_bnfree.flags import cli
from experiments.measuring import check_arguments, check_folder


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure the steps of configs/cifar10_cpu.py with several numbers of views."""

    norms: tuple[Norm, ...] = ("bn", "gn_ws")
    """Norms of the whole network."""
    batch_size: int = 256
    """Images of a step."""
    rounds: int = 3
    """Times that each case is measured; the median counts."""
    steps: int = 3
    """Steps of a round."""
    out: Path = Path(__file__).with_name("cost.json")
    """The file of the results, which is replaced."""

    def __post_init__(self):
        check_arguments(self)


def main(arguments: Arguments) -> None:
    """Compile every case, measure in turns, print.

    Raises:
      InputError: if the file cannot be written.
    """
    out = expanded(arguments.out)
    if out.is_dir():
        raise InputError(f"--out is {out}, which is a folder; give a file in it.")
    check_folder("out", out.parent)
    from experiments.views.timing import measure  # after parsing: --help needs no JAX

    batch_size, rounds, steps = arguments.batch_size, arguments.rounds, arguments.steps
    rows = [
        row
        for norm in arguments.norms
        for row in measure(norm, batch_size, rounds=rounds, steps=steps)
    ]
    table = Table("norm", "views", "ms a step", "time over 2 views", "memory over it")
    for row in rows:
        table.add_row(
            row["norm"],
            row["views"],
            f"{1000 * row['seconds']:.0f}",
            f"{row['time_ratio']:.2f}",
            "-" if row["memory_ratio"] is None else f"{row['memory_ratio']:.2f}",
        )
    Console().print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, (json.dumps(rows, indent=1) + "\n").encode())


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
