"""Prints a grid and its expected time before anything runs."""

import functools
import statistics
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from byol_bnfree.data.workers import usable_cores
from experiments.grid import Experiment, Run
from experiments.places import Places
from experiments.results import Row, read_results
from experiments.scales import Scale
from experiments.slots import Slot

EPOCHS = "--epochs="
OTHER_STEPS = ("--batch-size=", "--views.")
"""Flags with which a step takes another time."""


def print_plan(
    experiment: Experiment, scale: Scale, runs: Sequence[Run], places: Places
) -> None:
    """Print one line per run (state, time, settings), and the total time."""
    rows = rows_that_count(places, experiment.name)
    numbers = {arm.name: i for i, arm in enumerate(experiment.arms(scale), 1)}
    table = Table(title=f"{experiment.name}, {scale.name} scale: {scale.what}")
    for name in ("row", "arm", "seed", "state"):
        table.add_column(name)
    table.add_column("minutes", justify="right")
    table.add_column("settings", overflow="fold")
    open_runs: list[float | None] = []
    for run in runs:
        state = places.state(run)
        seconds = seconds_left(run, scale, rows, places, scale.cores)
        if state != "finished":
            open_runs.append(seconds)
        cells = (
            str(numbers[run.arm]),
            run.arm,
            str(run.seed),
            state,
            "" if state == "finished" else _minutes(seconds),
        )
        table.add_row(*cells, " ".join(run.flags))
    console = Console()
    console.width = max(console.width, 100)
    console.print(experiment.question)
    console.print(table)
    total = total_of(open_runs, 60, ".1f", "minutes")
    console.print(f"expected: {total}, one run at a time, {source_of_times(scale)}")


def source_of_times(scale: Scale) -> str:
    """Say where expected times come from."""
    return f"by earlier runs where there are some, and otherwise by {scale.machine}"


def total_of(
    seconds: Sequence[float | None], unit: float, digits: str, name: str
) -> str:
    """Return the sum in units of so many seconds; `?` if no time is known.

    If only some are known, it is a lower bound.
    """
    known = [value for value in seconds if value is not None]
    if seconds and not known:
        return "?"
    more = "more than " if len(known) < len(seconds) else ""
    return f"{more}{sum(known) / unit:{digits}} {name}"


def rows_that_count(places: Places, experiment: str) -> list[Row]:
    """Return the rows of runs that this grid would not do again.

    A run that was stopped or diverged took less time than one that goes on.
    """
    return [
        row
        for row in read_results(places.rows(experiment))
        if places.counts(row) and not row.get("diverged")
    ]


def expected_seconds(
    run: Run, scale: Scale, rows: Sequence[Row], cores: int | None = None
) -> float | None:
    """Return the median time of the arm's runs with these settings, or an estimate.

    The estimate is the scale's time, times the epochs of the arm over the scale's. None
    means unknown, as for another batch size or other views, whose steps take another
    time. Times of more cores than `cores` are stretched, and those of fewer shortened.
    """
    own = (run.scale, run.arm, run.settings)
    times = [
        row["wall_seconds"] * _stretch((row["environment"] or {}).get("cores"), cores)
        for row in rows
        if (row["scale"], row["arm"], row["settings"]) == own and not row["resumed"]
    ]
    if times:
        return statistics.median(times)
    if scale.seconds is None or any(f.startswith(OTHER_STEPS) for f in run.flags):
        return None
    usual_seconds = scale.seconds * _stretch(scale.cores, cores)
    epochs = [float(f.removeprefix(EPOCHS)) for f in run.flags if f.startswith(EPOCHS)]
    usual = scale.config.rpartition(":")[2]
    if not epochs or not usual.isdecimal():
        return usual_seconds
    return usual_seconds * epochs[-1] / int(usual)


def seconds_left(
    run: Run,
    scale: Scale,
    rows: Sequence[Row],
    places: Places,
    cores: int | None = None,
) -> float | None:
    """Return the expected time of the part of a run that is not done."""
    seconds = expected_seconds(run, scale, rows, cores)
    return None if seconds is None else seconds * (1 - places.done(run))


def _stretch(measured: int | None, cores: int | None) -> float:
    """Return the time on `cores` over that on `measured` cores, as if they added up."""
    return 1.0 if measured is None or cores is None else measured / cores


def expectation(
    scale: Scale, places: Places, slot: Slot
) -> Callable[[Run], float | None]:
    """Return a function from a run to the seconds it still takes in such a slot."""
    if slot.cores is not None:
        cores = len(slot.cores)
    else:  # it has the whole machine
        cores = usable_cores() if scale.cores else None

    @functools.cache
    def rows(experiment: str) -> Sequence[Row]:
        return rows_that_count(places, experiment)

    return lambda run: seconds_left(run, scale, rows(run.experiment), places, cores)


def _minutes(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds / 60:.1f}"
