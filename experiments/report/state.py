"""One page with the state of all experiments at a scale: done, open, and how long."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments import GRIDS
from experiments.collapse import outcome
from experiments.comparison import compare
from experiments.grid import Experiment, Run, load_experiment, make_runs
from experiments.plan import expected_seconds
from experiments.report.blocks import Block, Section, Table, Text
from experiments.report.page import page
from experiments.results import read_rows
from experiments.runner import Places
from experiments.scales import Scale

HEAD = (
    "experiment",
    "finished",
    "of",
    "interrupted",
    "collapsed",
    "diverged",
    "hours left",
    "answer so far",
)


def write_state(scale: Scale, seeds: Sequence[int], places: Places) -> Path:
    """The page in the folder of results."""
    rows, sections = [], []
    for name in GRIDS:
        experiment = load_experiment(name)
        runs = make_runs(experiment, scale, seeds)
        rows.append(_line(experiment, scale, runs, places))
        sections.append(Section(name, [_arms(experiment, scale, runs, places)], True))
    text = (
        f"{scale.what}; seeds {', '.join(map(str, seeds))}. Hours left are those of "
        f"one run at a time on {scale.machine}."
    )
    blocks: list[Block] = [Text(text), Table(HEAD, rows, words=(0, 7)), *sections]
    places.results.mkdir(parents=True, exist_ok=True)
    path = places.results / "state.html"
    path.write_text(page("The state of all experiments", blocks))
    return path


def _line(
    experiment: Experiment, scale: Scale, runs: Sequence[Run], places: Places
) -> tuple[str, ...]:
    """An experiment in numbers, and what its results say so far."""
    rows = read_rows(places.rows(experiment.name))
    states = {run: places.state(run) for run in runs}
    compared = compare(experiment, scale, rows)
    ends = Counter(
        outcome(row) for r in compared.results.values() for row in r.rows.values()
    )
    left = [expected_seconds(r, scale, rows) for r in runs if states[r] != "finished"]
    hours = None if None in left else sum(left) / 3600
    counts = Counter(states.values())
    return (
        experiment.name,
        str(counts["finished"]),
        str(len(runs)),
        str(counts["interrupted"]),
        str(ends["collapsed"]),
        str(ends["diverged"]),
        "?" if hours is None else f"{hours:.1f}",
        compared.answer(),
    )


def _arms(
    experiment: Experiment, scale: Scale, runs: Sequence[Run], places: Places
) -> Table:
    """Every run of an experiment: its state, and what came of it."""
    rows = read_rows(places.rows(experiment.name))
    results = compare(experiment, scale, rows).results
    lines = []
    for run in runs:
        result = results.get(run.arm)
        row = result.rows.get(run.seed) if result else None
        linear = result.percent("linear").get(run.seed) if result else None
        lines.append(
            (
                run.arm,
                str(run.seed),
                places.state(run) if row is None else "finished",
                "" if row is None else outcome(row),
                "" if linear is None else f"{linear:.1f}",
            )
        )
    return Table(("arm", "seed", "state", "outcome", "linear, %"), lines, (0, 2, 3))
