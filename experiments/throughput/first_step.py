"""Measures the time from the command to its first step.

    python -m experiments.throughput.first_step

In turn, `rounds` times: the main command in a fresh process with an empty compilation
cache, and again with the cache that it left; each until its first row is written.
Prints medians, appends to first_step.jsonl. Leave the machine otherwise idle.
"""

import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.files import append_row
from byol_bnfree.flags import cli
from experiments.measuring import check_arguments, check_folder

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Arguments:
    """Time runs up to their first step."""

    settings: str = "--norm=gn_ws"
    """Flags of byol_bnfree.train; the default: the main command."""
    rounds: int = 3
    """Rounds; medians are reported."""
    out: Path = HERE
    """Folder of first_step.jsonl."""

    def __post_init__(self):
        check_arguments(self)


def main(arguments: Arguments) -> None:
    """Measure in turn, print a table, append to first_step.jsonl.

    Raises:
      InputError: if the folder of first_step.jsonl cannot be written to.
    """
    from byol_bnfree.training.environment import environment  # --help needs no JAX

    check_folder("out", arguments.out)
    rounds, kernels = [], ""
    for index in range(arguments.rounds):
        print(f"round {index + 1} of {arguments.rounds}", flush=True)
        seconds, kernels = _round(shlex.split(arguments.settings))
        rounds.append(seconds)
    medians = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    columns = ("seconds", "median", *(f"round {i + 1}" for i in range(len(rounds))))
    table = Table(*columns, title=f"layers by {kernels}")
    for key, median in medians.items():
        table.add_row(key, f"{median:.1f}", *(f"{r[key]:.1f}" for r in rounds))
    Console(width=100).print(table)
    given = {"settings": arguments.settings, "rounds": arguments.rounds}
    row = {"arguments": given, "medians": medians}
    row |= {"rounds": rounds, "environment": environment() | {"kernels": kernels}}
    append_row(arguments.out / "first_step.jsonl", row)


def _round(settings: list[str]) -> tuple[dict[str, float], str]:
    """Seconds without and with a cache, and what computed the layers."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [*settings, f"--run.compilation-cache={folder}/cache"]
        workdirs = {name: Path(folder) / name for name in ("fresh", "cached")}
        seconds = {
            name: seconds_to_first_step(settings, workdir)
            for name, workdir in workdirs.items()
        }
        found = json.loads((workdirs["fresh"] / "environment.json").read_text())
        return seconds, found["kernels"]


def seconds_to_first_step(settings: list[str], workdir: Path) -> float:
    """From start to the first step's row; the run is not wanted any longer."""
    from byol_bnfree.training.logs import MetricsLog

    command = [sys.executable, "-m", "byol_bnfree.train", *settings]
    command.append(f"--workdir={workdir}")
    log = MetricsLog(workdir, primary=False)
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
        while not log.rows():
            time.sleep(0.01)
            if run.poll():
                sys.exit(run.returncode)  # it has said why
        seconds = time.perf_counter() - began
        run.kill()
    return seconds


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
