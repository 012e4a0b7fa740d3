"""How long does evaluation take, compared with the machine's limit and simple programs?

    python -m experiments.evaluation_speed

Three measurements, each in turn with simple programs, `rounds` times: features
of CIFAR-sized images (beside the bare forward pass, and a plain loop), kNN of 10,000
features against 50,000 x 512 (beside NumPy, and its matrix product alone), and the 45
strengths of `linear_cached` on 50,000 x 512 (beside one fit by scikit-learn). Prints
medians of the rounds and appends all to results.jsonl. About ten minutes on 2 CPU
cores; leave the machine otherwise idle.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rich.console import Console
from rich.table import Table

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.files import append_row
from byol_bnfree.flags import cli
from experiments.measuring import check_arguments

Contest = Literal["features", "knn", "linear_cached"]
RESULTS = Path(__file__).with_name("results.jsonl")


@dataclass(frozen=True)
class Arguments:
    """Time evaluation and other programs."""

    contest: tuple[Contest, ...] = get_args(Contest)
    """The programs to time."""
    rounds: int = 3
    """Number of rounds; medians are reported."""

    def __post_init__(self):
        check_arguments(self)


def main(arguments: Arguments) -> None:
    """Measure in turn, append each contest to results.jsonl, print a table."""
    # After parsing: --help needs no JAX.
    from byol_bnfree.training.environment import environment
    from experiments.evaluation_speed.contests import CONTESTS

    rows = []
    for name in arguments.contest:
        for title, runners in CONTESTS[name]():
            print(f"{name}: {title}", flush=True)
            rounds = [_one_round(runners) for _ in range(arguments.rounds)]
            row = {"contest": name, "title": title, "seconds": rounds}
            row |= {"load": os.getloadavg()[0], "environment": environment()}
            append_row(RESULTS, row)
            rows.append(row)
    Console().print(_table(rows))


def _one_round(runners: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the seconds of each. All have run once before."""
    seconds = {}
    for name, run in runners.items():
        began = time.perf_counter()
        run()
        seconds[name] = time.perf_counter() - began
        print(f"  {name}: {seconds[name]:.1f} s", flush=True)
    return seconds


def _table(rows: list[dict]) -> Table:
    table = Table(title="medians of the rounds; ratios are of one round")
    for head in ("what", "by", "seconds", "ours takes this many times as long"):
        table.add_column(head, justify="left" if head in ("what", "by") else "right")
    for row in rows:
        for name in row["seconds"][0]:
            seconds = statistics.median(found[name] for found in row["seconds"])
            ratio = statistics.median(f["ours"] / f[name] for f in row["seconds"])
            table.add_row(row["title"], name, f"{seconds:.2f}", f"{ratio:.2f}")
    return table


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
