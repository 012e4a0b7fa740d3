"""docs/results.md: every measured figure of the project with its conditions.

The table of the front page, README.md, is made with it.

    python -m experiments.report.results              # writes the page anew
    python -m experiments.report.results --add RUN    # adds a finished run to it first

Runs whose settings the experiments no longer have stand in a table of their own. The
page is made from results files alone: those of the experiments, of `throughput` and
`evaluation_speed`, and docs/runs.jsonl, which `--add` appends to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.files import append_row, read_rows
from byol_bnfree.flags import cli
from experiments import GRIDS
from experiments.comparison import Comparison, common_seeds, compare, older_rows
from experiments.decisions import MARGIN, in_cell
from experiments.dense.arguments import Arguments as DenseArguments
from experiments.dense.comparison import of_settings
from experiments.dense.report import table as dense_table
from experiments.grid import load_experiment
from experiments.pages.blocks import (
    Block,
    Section,
    Table,
    Text,
    table_markdown,
    to_markdown,
)
from experiments.pages.marks import filled
from experiments.report.conditions import (
    command_of,
    commit_of,
    conditions,
    machine,
    measured_on,
    rebased,
)
from experiments.report.content import answer_of
from experiments.report.speed import evaluation_speed, step_speed
from experiments.report.tables import (
    DEVIATION,
    accuracy_table,
    arms_note,
    stopped_note,
)
from experiments.results import Row, read_parts, read_results
from experiments.scales import SCALES
from experiments.seeds import verdict

ROOT = Path(__file__).parents[2]
PAGE, RUNS = ROOT / "docs" / "results.md", ROOT / "docs" / "runs.jsonl"
HOME = ROOT / "README.md"
LENGTHS = ("cpu", "cpu30", "cpu_hour", "cpu144")
"""Scales that differ in the number of epochs."""
INTRODUCTION = (
    "`python -m experiments.report.results` makes this page from results files. Each "
    "figure has its seeds, commit and machine. A + after a commit means uncommitted "
    "changes. They may be no more than new rows of the same grid. Accuracies are "
    "top-1. An untrained network is "
    f"measured beside each trained one. {DEVIATION} "
    "[The comparison](comparison.md) explains the verdicts."
)


@dataclass(frozen=True)
class Arguments:
    """Write docs/results.md."""

    add: tuple[Path, ...] = ()
    """Work folders of finished runs; their figures are added to docs/runs.jsonl."""


def main(arguments: Arguments) -> None:
    """Add runs, then write the page; see `Arguments`."""
    for workdir in arguments.add:
        append_row(RUNS, run_row(workdir))
    PAGE.write_text(results_page())
    print(PAGE)
    HOME.write_text(filled(HOME.read_text(), "lengths", table_markdown(lengths())))
    print(HOME)


def lengths() -> Table:
    """Return the table of the front page: gn_ws and bn by the number of epochs."""
    experiment = load_experiment("norm_comparison")
    rows = read_results(ROOT / "experiments" / experiment.name / "results.jsonl")
    found = []
    for name in LENGTHS:
        compared = compare(experiment, SCALES[name], rows)
        difference = compared.difference("gn_ws", "bn")
        if difference is not None:
            pair = [compared.results[norm] for norm in ("gn_ws", "bn")]
            means = (f"{r.mean_over(common_seeds(pair)):.1f}" for r in pair)
            decided = verdict(difference, MARGIN)
            epochs = f"{SCALES[name].epochs}"
            found.append((epochs, *means, in_cell(difference), decided))
    head = ("epochs", "gn_ws, %", "bn, %", "gn_ws - bn, points [95 %]", "verdict")
    return Table(head, found, words=(4,))


def run_row(workdir: Path) -> Row:
    """Return the part of a finished run that is kept.

    Raises: InputError where there is none.
    """
    parts = read_parts(workdir, "summary", "environment")
    return {"command": command_of(parts["environment"]), **parts}


def results_page() -> str:
    """Return the whole page as Markdown."""
    blocks: list[Block] = [
        *_runs(),
        *_experiments(),
        *_older(),
        *_dense(),
        *step_speed(),
        *evaluation_speed(),
    ]
    body = "\n".join(to_markdown(block) for block in blocks)
    return f"# Results\n\n{INTRODUCTION}\n\n{body}"


def _dense() -> Iterator[Block]:
    rows = of_settings(DenseArguments())  # trials with other settings may be there too
    if not rows:
        return
    where = " ".join(sorted({machine(row["environment"]) for row in rows}))
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    yield Section(
        "Dense tasks",
        [
            Text(
                "Generated scenes of 64 x 64 pixels. Means over seeds, with half their "
                "range and their number. `experiments/dense` has the conditions. "
                f"{where} Commits: {commits}."
            ),
            Text("    python -m experiments.dense"),
            dense_table(rows),
        ],
    )


def _runs() -> Iterator[Block]:
    rows = read_rows(RUNS)
    if not rows:
        return
    head = (
        "flags",
        "kNN, %",
        "linear, %",
        "chance, %",
        "collapse",
        "seconds",
        "commit",
    )
    lines = [_run_line(row) for row in rows]
    where = " ".join(sorted({machine(row["environment"]) for row in rows}))
    yield Section(
        "Single runs",
        [
            Text(
                "`python -m byol_bnfree.train` with the flags of each row; a row is "
                "one run. Accuracies are on the test split, if no flag names another. "
                f"Untrained and trained encoder. {where}"
            ),
            Table(head, lines, words=(0, 4, 6)),
        ],
    )


def _run_line(row: Row) -> tuple[str, ...]:
    summary = row["summary"]
    knn, linear = (_from_to(summary[name]) for name in ("knn", "linear"))
    chance = summary.get("chance")
    flags = row["command"].removeprefix("python -m byol_bnfree.train").strip()
    return (
        f"`{flags}`" if flags else "none",
        knn,
        linear,
        "" if chance is None else f"{100 * chance:.1f}",
        summary["collapse"]["verdict"],
        f"{summary['seconds']:.0f}",
        commit_of(row),
    )


def _from_to(figure: dict[str, float | None]) -> str:
    if figure["trained"] is None:
        return ""
    return f"{100 * figure['untrained']:.1f} -> {100 * figure['trained']:.1f}"


def _experiments() -> Iterator[Block]:
    for name in GRIDS:
        experiment = load_experiment(name)
        rows = read_results(ROOT / "experiments" / name / "results.jsonl")
        run = {row["scale"] for row in rows} - {"smoke"}
        # Reading the settings of all arms takes seconds, so only scales with rows.
        for scale in (scale for scale in SCALES.values() if scale.name in run):
            compared = compare(experiment, scale, rows)
            if compared.results:
                title = f"{experiment.question} ({scale.name} scale)"
                yield Section(title, _experiment(compared))


def _older() -> Iterator[Block]:
    """List the runs whose settings are no longer those of an arm."""
    lines, older = [], []
    for name in GRIDS:
        rows = read_results(ROOT / "experiments" / name / "results.jsonl")
        experiment, run = load_experiment(name), {row["scale"] for row in rows}
        for scale in (s for s in SCALES.values() if s.name in run - {"smoke"}):
            found = older_rows(experiment, scale, rows)
            lines += [(name, scale.name, *_older_line(row)) for row in found]
            older += found
    if not lines:
        return
    head = (
        *("experiment", "scale", "arm", "seed", "kNN, %", "linear, %"),
        *("measured on", "commit"),
    )
    text = (
        "An experiment compares the settings that its arms have today. These runs had "
        "other settings, so they are in no comparison above. The lines of "
        "experiments/NAME/results.jsonl have their settings. "
    ) + rebased(older)
    table = Table(head, lines, words=(0, 1, 2, 6, 7))
    yield Section("Runs with older settings", [Text(text.strip()), table])


def _older_line(row: Row) -> tuple[str, ...]:
    none = {"untrained": None, "trained": None}
    summary = row["summary"] or {"knn": none, "linear": none}
    knn, linear = (_from_to(summary[name]) for name in ("knn", "linear"))
    place = (measured_on(row), commit_of(row))
    return row["arm"], str(row["seed"]), knn, linear, *place


def _experiment(compared: Comparison) -> list[Block]:
    splits = dict.fromkeys(map(measured_on, compared.rows))
    protocol = (
        f"{compared.what}. Accuracies are measured on {' and '.join(splits)}.",
        compared.experiment.note,
        stopped_note(compared),
        arms_note(compared),
        conditions(compared.rows),
    )
    return [
        *answer_of(compared),
        Text(" ".join(filter(None, protocol))),
        accuracy_table(compared),
        Text("Curves and layers are in [the reports](reports.md)."),
    ]


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments, description=__doc__)))
