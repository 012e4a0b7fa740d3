"""Where does a step's time go?

    python -m experiments.throughput.hotspots --workload=cifar_thin --norm=gn_ws

Traces a few steps on ready-made views and adds up the compiled program's operations by
kind. Operations run side by side, so their sum is more than the step. Appends to
hotspots.jsonl. Leave the machine otherwise idle.
"""

import collections
import dataclasses
import gzip
import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import Norm
from byol_bnfree.files import append_row
from byol_bnfree.flags import cli
from experiments.measuring import check_arguments
from experiments.throughput.workloads import WORKLOADS, config_for

HERE = Path(__file__).parent
INSTRUCTION = re.compile(r"%?(\S+) = .*? ([\w-]+)\(.*op_name=\"(?:.*/)?(.*?)\"")


@dataclass(frozen=True)
class Arguments:
    """Trace the step of one workload with one norm."""

    workload: Literal[tuple(WORKLOADS)] = "cifar_thin"
    """Network and batch."""
    norm: Norm = "gn_ws"
    """Normalization of every part."""
    steps: int = 5
    """Steps in the trace."""

    def __post_init__(self):
        check_arguments(self)


def main(arguments: Arguments) -> None:
    """Trace, print a table with the longest first, append to hotspots.jsonl."""
    # After parsing: --help needs no JAX.
    import jax

    from byol_bnfree.training.environment import environment
    from byol_bnfree.training.parts import DataShape
    from byol_bnfree.training.program import build_program
    from experiments.throughput.measure import ready_views

    workload = WORKLOADS[arguments.workload]
    config = config_for(workload, arguments.norm, "auto", False)
    shape = DataShape(50_000, 10, (workload.image_size,) * 2 + (3,))
    program = build_program(config, shape)
    batch = ready_views(config.batch_size, workload.image_size)
    step = program.step.lower(program.abstract_state, batch).compile()
    state, metrics, _ = step(program.init(batch), batch)
    jax.block_until_ready(metrics)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        jax.profiler.start_trace(folder)
        for _ in range(arguments.steps):
            state, metrics, _ = step(state, batch)
            jax.block_until_ready(metrics)
        whole = time.perf_counter() - began
        jax.profiler.stop_trace()
        seconds = add_up(Path(folder), kinds(step.as_text()))
    milliseconds = {
        kind: 1e3 * value / arguments.steps for kind, value in seconds.most_common()
    }
    title = f"one step: {1e3 * whole / arguments.steps:.0f} ms"
    table = Table("operation", "ms a step", title=title)
    for kind, value in list(milliseconds.items())[:20]:
        table.add_row(kind, f"{value:.1f}")
    table.add_row("all", f"{sum(milliseconds.values()):.1f}")
    Console(width=100).print(table)
    row = dataclasses.asdict(arguments) | {
        "step_ms": 1e3 * whole / arguments.steps,
        "ms": milliseconds,
        "environment": environment(),
    }
    append_row(HERE / "hotspots.jsonl", row)


def kinds(program: str) -> dict[str, str]:
    """Instruction of a compiled program to its operation and last primitive."""
    found = map(INSTRUCTION.search, program.splitlines())
    return {m[1]: f"{m[2]} {m[3]}" for m in found if m}


def add_up(folder: Path, kind_of: dict[str, str]) -> collections.Counter[str]:
    """Seconds of each kind in the trace."""
    (path,) = folder.rglob("*.trace.json.gz")
    seconds: collections.Counter[str] = collections.Counter()
    with gzip.open(path) as file:
        for event in json.load(file)["traceEvents"]:
            if event.get("ph") == "X" and event["name"] in kind_of:
                seconds[kind_of[event["name"]]] += event["dur"] / 1e6
    return seconds


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
