"""Prints a grid and its expected time before anything runs."""

import functools
import statistics
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from experiments.grid import Experiment, Run
from experiments.results import Row, read_rows
from experiments.runner import Places
from experiments.scales import Scale

EPOCHS = "--epochs="


def print_plan(
    experiment: Experiment, scale: Scale, runs: Sequence[Run], places: Places
) -> None:
    """Print one line per run (state, time, settings), and the total time."""
    rows = read_rows(places.rows(experiment.name))
    numbers = {arm.name: i for i, arm in enumerate(experiment.arms(scale), 1)}
    table = Table(title=f"{experiment.name}, {scale.name} scale: {scale.what}")
    for name in ("row", "arm", "seed", "state"):
        table.add_column(name)
    table.add_column("minutes", justify="right")
    table.add_column("settings", overflow="fold")
    total = 0.0
    for run in runs:
        state = places.state(run)
        seconds = expected_seconds(run, scale, rows)
        total += 0 if state == "finished" else seconds or float("nan")
        cells = (
            str(numbers[run.arm]),
            run.arm,
            str(run.seed),
            state,
            _minutes(seconds),
        )
        table.add_row(*cells, " ".join(run.flags))
    console = Console()
    console.width = max(console.width, 100)
    console.print(experiment.question)
    console.print(table)
    console.print(f"expected: {_minutes(total)} minutes on {scale.machine}")


def expected_seconds(run: Run, scale: Scale, rows: Sequence[Row]) -> float | None:
    """Return the median time of the arm's runs at this scale, or an estimate.

    The estimate is the scale's time, times the epochs of the arm over the scale's.
    """
    times = [
        row["wall_seconds"]
        for row in rows
        if (row["scale"], row["arm"]) == (run.scale, run.arm) and not row["resumed"]
    ]
    if times or scale.seconds is None:
        return statistics.median(times) if times else None
    epochs = [float(f.removeprefix(EPOCHS)) for f in run.flags if f.startswith(EPOCHS)]
    usual = scale.config.rpartition(":")[2]
    if not epochs or not usual.isdecimal():
        return scale.seconds
    return scale.seconds * epochs[-1] / int(usual)


def expectation(scale: Scale, places: Places) -> Callable[[Run], float | None]:
    """Return a function from a run to its expected seconds, by present results."""

    @functools.cache
    def rows(experiment: str) -> Sequence[Row]:
        return read_rows(places.rows(experiment))

    return lambda run: expected_seconds(run, scale, rows(run.experiment))


def _minutes(seconds: float | None) -> str:
    known = seconds is not None and seconds == seconds
    return f"{seconds / 60:.1f}" if known else "?"
