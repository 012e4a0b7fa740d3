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

from byol_bnfree.config import Norm
from byol_bnfree.flags import cli


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
    out: Path = Path("experiments/views/cost.json")
    """The results."""


def main(arguments: Arguments) -> None:
    """Compile every case, measure in turns, print."""
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
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(cli(Arguments))
