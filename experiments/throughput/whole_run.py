"""What does a run cost beside its steps, and how long until the first one?

    python -m experiments.throughput.whole_run

In turn, `rounds` times: the main command without its last evaluation, in a fresh
process with an empty compilation cache, then with the cache that it left; and the bare
step (no probe, no collapse measures, the batch ready) in a process of its own. Prints
medians, appends to whole_run.jsonl. Leave the machine otherwise idle.
"""

import dataclasses
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro
from rich.console import Console
from rich.table import Table

from byol_bnfree import TrainConfig
from byol_bnfree.command_line import parse_args
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.sources import open_source
from byol_bnfree.training.logs import MetricsLog, environment
from byol_bnfree.training.mesh import batch_sharding
from byol_bnfree.training.program import DataShape, build_program

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Arguments:
    """Time whole runs beside their bare steps."""

    settings: str = "--norm=gn_ws"
    """Of byol_bnfree.train; the default: the main command."""
    steps: int = 400
    """Steps of a run."""
    checkpoint_seconds: float = 30.0
    """As --run.checkpoint-seconds, whose default is 120."""
    rounds: int = 3
    """Rounds; medians are reported."""
    bare: bool = False
    """Only time the bare step in this process, and print it as JSON."""


def main(arguments: Arguments) -> None:
    """Measure in turn, print a table, append to whole_run.jsonl."""
    if arguments.bare:
        config = parse_args(shlex.split(arguments.settings))
        print(json.dumps(bare_step_seconds(config, arguments.steps)))
        return
    rounds = []
    for index in range(arguments.rounds):
        print(f"round {index + 1} of {arguments.rounds}", flush=True)
        rounds.append(_round(arguments))
    medians = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    table = Table("measure", "median", *(f"round {i + 1}" for i in range(len(rounds))))
    for key, median in medians.items():
        table.add_row(key, f"{median:.4g}", *(f"{r[key]:.4g}" for r in rounds))
    Console(width=100).print(table)
    row = {"arguments": dataclasses.asdict(arguments), "medians": medians}
    with (HERE / "whole_run.jsonl").open("a") as file:
        row |= {"rounds": rounds, "environment": environment()}
        file.write(json.dumps(row) + "\n")


def _round(arguments: Arguments) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        cache = f"--run.compilation-cache={folder}/cache"
        ends = ["--evaluation.skip", cache]
        length = [
            f"--steps={arguments.steps}",
            f"--run.checkpoint-seconds={arguments.checkpoint_seconds}",
        ]
        settings = [*shlex.split(arguments.settings), *ends, *length]
        first = time_run(settings, Path(folder) / "first")
        again = time_to_first_step(settings, Path(folder) / "again")
    module = [sys.executable, "-m", "experiments.throughput.whole_run", "--bare"]
    command = [*module, f"--steps={arguments.steps}"]
    command.append(f"--settings={arguments.settings}")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    bare = json.loads(done.stdout.splitlines()[-1])
    return {
        "seconds to the first step": first["to_first_step"],
        "seconds to the first step, cached": again,
        "ms a step, of a run": 1e3 * first["step"],
        "ms a step, bare": 1e3 * bare,
        "overhead of a run, %": 100 * (first["step"] / bare - 1),
        "data wait, %": 100 * first["data_wait"],
    }


def time_run(settings: list[str], workdir: Path) -> dict[str, float]:
    """Seconds from start to the first step's row, and a step with all that goes along.

    The latter is by the clock between the first row and the last, checkpoints included.
    """
    seen: dict[int, float] = {}
    began = time.perf_counter()
    with _run(settings, workdir) as run:
        while run.poll() is None:
            time.sleep(0.01)
            if rows := _rows(workdir):
                seen.setdefault(rows[-1]["step"], time.perf_counter())
        _exit_if_failed(run)
    rows, first, last = _rows(workdir)[1:], min(seen), max(seen)
    waited = sum(row["perf/data_wait"] * row["perf/seconds"] for row in rows)
    return {
        "to_first_step": seen[first] - began,
        "step": (seen[last] - seen[first]) / (last - first),
        "data_wait": waited / sum(row["perf/seconds"] for row in rows),
    }


def time_to_first_step(settings: list[str], workdir: Path) -> float:
    """Seconds from start to the first step's row; the run is not wanted any longer."""
    began = time.perf_counter()
    with _run(settings, workdir) as run:
        while not _rows(workdir):
            time.sleep(0.01)
            _exit_if_failed(run)
        seconds = time.perf_counter() - began
        run.kill()
    return seconds


def _run(settings: list[str], workdir: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "byol_bnfree.train", *settings]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}"], stdout=subprocess.DEVNULL
    )


def _exit_if_failed(run: subprocess.Popen) -> None:
    """With its status; it has said why."""
    if run.poll():
        sys.exit(run.returncode)


def _rows(workdir: Path) -> list[dict[str, Any]]:
    return MetricsLog(workdir, primary=False).rows()


def bare_step_seconds(config: TrainConfig, steps: int) -> float:
    """Mean seconds of the step on one ready batch; nothing is measured in it."""
    source = open_source(config, "train")
    program = build_program(config, DataShape(len(source), None, source.image_shape))
    batches = Batches(source, config, batch_sharding(program.mesh))
    batch = batches(0)
    # Without the metrics among its results, the compiler leaves them out.
    step = jax.jit(lambda state, batch: program.step(state, batch)[0], donate_argnums=0)
    state = jax.block_until_ready(step(program.init(batch), batch))
    began = time.perf_counter()
    for _ in range(steps):
        state = step(state, batch)
    jax.block_until_ready(state)
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    main(tyro.cli(Arguments))
