"""One page with the state of all experiments at a scale: done, open, and how long.

A run is finished if a grid would not do it: see `places`.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments import GRIDS
from experiments.collapse import outcome
from experiments.comparison import Comparison, compare
from experiments.dense.arguments import Arguments
from experiments.dense.arms import Arm, arms
from experiments.dense.comparison import of_settings
from experiments.grid import Run, load_experiment, make_runs
from experiments.pages.blocks import Block, Section, Table, Text
from experiments.pages.lock import writing
from experiments.places import Places, State
from experiments.plan import seconds_left, source_of_times, total_of
from experiments.report.page import page
from experiments.results import Row, read_results
from experiments.scales import Scale

STOPPED = (
    "A run that was stopped at its collapse counts as collapsed, and as finished only "
    "with --stop-collapsed. Runs of other lengths have a page of their own, such as "
    "--scale cpu4."
)
HEAD = (
    "experiment",
    "finished",
    "of",
    "interrupted",
    "collapsed",
    "diverged",
    "time left",
    "answer so far",
)


def write_state(scale: Scale, seeds: Sequence[int], places: Places) -> Path:
    """Write the page into the folder of results."""
    places.results.mkdir(parents=True, exist_ok=True)
    path = places.results / "state.html"
    with writing(places.results):
        blocks = _blocks(scale, seeds, places)
        path.write_text(page("The state of all experiments", blocks))
    return path


def _blocks(scale: Scale, seeds: Sequence[int], places: Places) -> list[Block]:
    """Return the table of all experiments, and that of the runs of each."""
    rows, sections = [], []
    for name in GRIDS:
        experiment = load_experiment(name)
        found = read_results(places.rows(name))
        compared = compare(experiment, scale, found)
        states = _states(make_runs(experiment, scale, seeds), compared, places)
        times = list(filter(places.counts, found))
        counts = _counts(states, scale, times, places)
        rows.append((name, *counts, _answer(states, compared)))
        sections.append(Section(name, [_arms(states)], True))
    rows.append(_dense(seeds, places))
    words = "seed" if len(seeds) == 1 else "seeds"
    text = (
        f"{scale.what}; {words} {', '.join(map(str, seeds))}. The time left is that of "
        f"one run at a time, {source_of_times(scale)}. {STOPPED}"
    )
    return [Text(text), Table(HEAD, rows, words=(0, 7)), *sections]


def _dense(seeds: Sequence[int], places: Places) -> tuple[str, ...]:
    """Return the line of `experiments.dense`, which has no scales and no runs."""
    usual = Arguments(results=places.rows("dense"))
    found = {Arm(**row["arm"]) for row in of_settings(usual)}
    wanted = set(arms(seeds))
    left = _time([None] * len(wanted - found))
    numbers = (str(len(found & wanted)), str(len(wanted)), "", "", "", left)
    return ("dense", *numbers, "At no scale: see the table of its README.")


def _states(
    runs: Sequence[Run], compared: Comparison, places: Places
) -> dict[Run, tuple[State, Row | None]]:
    """Return the state of every run, with its row if there is one.

    The row may be that of an equal run of another experiment.
    """
    found = {}
    for run in runs:
        result, known = compared.results.get(run.arm), places.known(run)
        row = result.rows.get(run.seed) if result else None
        found[run] = (places.state(run), row or (known.row if known else None))
    return found


def _answer(states: dict[Run, tuple[State, Row | None]], compared: Comparison) -> str:
    """Return the answer of the experiment's own rows."""
    if not compared.results and any(row for _, row in states.values()):
        return (
            "Its finished runs are those of other experiments. Its command copies them."
        )
    return compared.answer()


def _counts(
    states: dict[Run, tuple[State, Row | None]],
    scale: Scale,
    rows: Sequence[Row],
    places: Places,
) -> tuple[str, ...]:
    """Return the numbers of an experiment, for the columns of `HEAD`."""
    counts = Counter(state for state, _ in states.values())
    ends = Counter(outcome(row) for _, row in states.values() if row is not None)
    left = [
        seconds_left(run, scale, rows, places, scale.cores)
        for run, (state, _) in states.items()
        if state != "finished"
    ]
    return (
        str(counts["finished"]),
        str(len(states)),
        str(counts["interrupted"]),
        str(ends["collapsed"]),
        str(ends["diverged"]),
        _time(left),
    )


def _time(seconds: Sequence[float | None]) -> str:
    """Return the sum in minutes, or in hours if it is an hour or more."""
    if sum(filter(None, seconds)) < 3600:
        return total_of(seconds, 60, ".0f", "min")
    return total_of(seconds, 3600, ".1f", "h")


def _arms(states: dict[Run, tuple[State, Row | None]]) -> Table:
    """Return every run of an experiment: its state, and its result."""
    lines = []
    for run, (state, row) in states.items():
        summary = None if row is None else row["summary"]
        linear = summary and summary["linear"]["trained"]
        lines.append(
            (
                run.arm,
                str(run.seed),
                state,
                "" if row is None else outcome(row),
                "" if linear is None else f"{100 * linear:.1f}",
            )
        )
    return Table(("arm", "seed", "state", "outcome", "linear, %"), lines, (0, 2, 3))
