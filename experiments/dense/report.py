"""The tables of README.md and the figure, all from the rows of results.jsonl."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, ScalarFormatter

from byol_bnfree.evaluation.dense.evaluation import rate_beyond
from byol_bnfree.files import write_atomically
from experiments.decisions import in_cell
from experiments.dense.arms import FROZEN_NORMS, IN_SMALL, NORMS, SMALL, TUNED, USUAL
from experiments.dense.encoders import KINDS, RESCALED
from experiments.pages.blocks import Table, table_markdown
from experiments.pages.marks import filled
from experiments.pages.style import LABEL_SIZE, NORM_COLORS, STYLE
from experiments.seeds import CONFIDENCE, paired_difference

Row = dict[str, Any]


class Shown(NamedTuple):
    """How a task is reported."""

    figure: str
    words: str
    constant: float
    """Figure of the best constant answer on the test scenes; 0 for no boxes."""


SHOWN = {
    "segmentation": Shown("miou", "mIoU, %", 0.0946),
    "depth": Shown("rel", "relative error, % (less is better)", 0.2351),
    "detection": Shown("ap50_voc", "AP50 of VOC, %", 0.0),
}
AT_AN_END = " (end)"  # after a figure; README.md explains it
TICKS = (5, 10, 20, 50, 100)  # of the relative error, %
FITS = ("fine-tuned", FROZEN_NORMS, "linear")


CONTRASTS = (
    *(("fine-tuned", kind, "untrained") for kind in ("pre-trained", RESCALED)),
    ("fine-tuned", "supervised", "untrained"),
    *(("linear", kind, "untrained") for kind in ("pre-trained", "supervised")),
)
"""A fit, and the two encoders of the usual batch that it compares."""


class Column(NamedTuple):
    """A kind of fit in the figure."""

    words: str
    tuned: str
    batch: int
    marker: str
    filled: bool


COLUMNS = (
    Column("fine-tuned", "fine-tuned", USUAL, "o", filled=True),
    Column(f"batch of {SMALL}", "fine-tuned", SMALL, "^", filled=True),
    Column(f"batch of {SMALL}, {FROZEN_NORMS}", FROZEN_NORMS, SMALL, "v", filled=False),
    Column("linear", "linear", USUAL, "o", filled=False),
)


class Line(NamedTuple):
    """A row of the table: all seeds and norms of one fit."""

    task: str
    tuned: str
    batch: int
    encoder: str


def write_report(rows: list[Row], folder: Path) -> None:
    """Write figures/accuracy.svg, and the tables between the marks of README.md."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        draw(rows).savefig(folder / "figures" / "accuracy.svg", metadata={"Date": None})
    readme = folder / "README.md"
    if not readme.exists():  # results elsewhere than in the source
        print_tables(rows)
        return
    write_atomically(readme, with_tables(readme.read_text(), rows).encode())


def with_tables(text: str, rows: list[Row]) -> str:
    """Return a text with the tables of these rows between its marks."""
    for name, found in tables(rows).items():
        text = filled(text, name, found)
    return text


def print_tables(rows: list[Row]) -> None:
    """Print the tables as Markdown."""
    print("\n\n".join(tables(rows).values()))


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the report as Markdown, by the name of their marks."""
    compared = differences(rows)
    said = by_chance(compared)
    return {
        "results": table_markdown(table(rows)),
        "differences": table_markdown(compared) + (f"\n{said}\n" if said else ""),
    }


def by_chance(compared: Table) -> str:
    """Say how many intervals would exclude 0 by chance; empty if there are not two."""
    cells = itertools.chain.from_iterable(compared.rows)
    count = sum("[" in cell for cell in cells)
    if count < 2:
        return ""
    return (
        f"The {count} intervals are not corrected for their number: about "
        f"{(1 - CONFIDENCE) * count:.1f} would exclude 0 by chance."
    )


def table(rows: list[Row]) -> Table:
    """Return the table: means over seeds, with half their range."""
    heads = ["task", "fit", "batch", "encoder", *NORMS]
    found = []
    for line in lines_of(rows):
        shown = SHOWN[line.task]
        name = f"{line.task}, {shown.words}"
        own = [list(of(rows, line, norm)) for norm in NORMS]
        figures = [spread([100 * r["figures"][shown.figure] for r in o]) for o in own]
        # Only one seed also chooses the rate.
        tuned = [[r for r in o if r["arm"]["seed"] == TUNED] for o in own]
        marks = [AT_AN_END * any(map(ends_at_an_end, t)) for t in tuned]
        figures = [f + mark for f, mark in zip(figures, marks, strict=True)]
        cells = [name, line.tuned, str(line.batch), line.encoder, *figures]
        found.append(cells)
    return Table(heads, found, words=(0, 1, 3))


def differences(rows: list[Row]) -> Table:
    """Return what encoders, a batch of 2 and frozen norms change, paired by seed."""
    heads = ["task", "fit", "difference, points [95 %]", *NORMS]
    found = []
    for task, shown in SHOWN.items():
        pairs = [
            (fit, f"{a} - {b}", Line(task, fit, USUAL, a), Line(task, fit, USUAL, b))
            for fit, a, b in CONTRASTS
        ]
        for kind in IN_SMALL:
            usual = Line(task, "fine-tuned", USUAL, kind)
            small = usual._replace(batch=SMALL)
            words = f"{kind}, batch of {SMALL} - batch of {USUAL}"
            pairs.append((usual.tuned, words, small, usual))
            frozen = small._replace(tuned=FROZEN_NORMS)
            words = f"{kind}, {FROZEN_NORMS} - trained norms, batch of {SMALL}"
            pairs.append((FROZEN_NORMS, words, frozen, small))
            words = f"{kind}, {FROZEN_NORMS}, batch of {SMALL} - batch of {USUAL}"
            pairs.append((FROZEN_NORMS, words, frozen, usual))
        for fit, words, a, b in pairs:
            cells = [_difference(rows, a, b, norm) for norm in NORMS]
            if any(cells):
                found.append([f"{task}, {shown.words}", fit, words, *cells])
    return Table(heads, found, words=(0, 1, 2))


def _difference(rows: list[Row], a: Line, b: Line, norm: str) -> str:
    """Write a - b in points with its interval; nothing without a common seed."""
    figure = SHOWN[a.task].figure
    by_seed = [
        {r["arm"]["seed"]: 100 * r["figures"][figure] for r in of(rows, line, norm)}
        for line in (a, b)
    ]
    found = paired_difference(*by_seed)
    return "" if found is None else in_cell(found)


def ends_at_an_end(row: Row) -> bool:
    """Say if the best rate of a row is the highest or the lowest that was tried."""
    rates = [trial["rate"] for trial in row["trials"]]
    return bool(rates) and rate_beyond(rates, row["chosen"]["rate"]) is not None


def lines_of(rows: list[Row]) -> list[Line]:
    """Return the rows of the table, by task, fit, batch (large first) and encoder."""
    tasks = list(SHOWN)

    def order(line: Line) -> tuple:
        places = (tasks.index(line.task), FITS.index(line.tuned))
        return *places, -line.batch, KINDS.index(line.encoder)

    found = {Line(*(row["arm"][key] for key in Line._fields)) for row in rows}
    return sorted(found, key=order)


def of(rows: list[Row], line: Line, norm: str) -> Iterable[Row]:
    """Yield the rows of a line under one norm, one for each seed."""
    wanted = line._asdict() | {"norm": norm}
    return (row for row in rows if row["arm"] | wanted == row["arm"])


def spread(values: list[float]) -> str:
    """Write the mean, with half the range and the count if there are several."""
    if not values:
        return ""
    mean = f"{sum(values) / len(values):.1f}"
    if len(values) == 1:
        return mean
    half = (max(values) - min(values)) / 2
    return f"{mean} +/- {half:.1f} ({len(values)})"


def draw(rows: list[Row]) -> Figure:
    """Draw a panel for each task: each seed a dot, and each mean a bar."""
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    panels = figure.subplots(1, len(SHOWN))
    for panel, (task, shown) in zip(panels, SHOWN.items(), strict=True):
        for place, (norm, kind) in enumerate(itertools.product(NORMS, COLUMNS)):
            _column(panel, rows, task, norm, kind, place)
        if shown.constant:
            label = "constant answer"
            panel.axhline(
                100 * shown.constant, color="gray", ls="--", lw=1, label=label
            )
        panel.set_xticks(range(len(KINDS)), KINDS, fontsize=LABEL_SIZE)
        panel.set_xlim(-0.5, len(KINDS) - 0.5)
        panel.grid(visible=False, axis="x")
        for x in range(1, len(KINDS)):  # between encoders
            panel.axvline(x - 0.5, color="gray", lw=0.5)
        if task == "depth":  # a few fits of bn are far from all others
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(FixedLocator(TICKS))
            panel.yaxis.set_major_formatter(ScalarFormatter())
            panel.minorticks_off()
        panel.set_title(task)
        panel.set_ylabel(shown.words)
    known = dict(zip(*panels[0].get_legend_handles_labels()[::-1], strict=True))
    figure.legend(known.values(), known.keys(), loc="outside lower center", ncol=3)
    return figure


def _column(
    panel: Axes, rows: list[Row], task: str, norm: str, column: Column, place: int
) -> None:
    """Draw the dots and means of one kind of fit at every encoder that has it."""
    color = NORM_COLORS[norm]
    shift = 0.1 * (place - (len(NORMS) * len(COLUMNS) - 1) / 2)  # side by side
    label = f"{norm}, {column.words}"
    for x, encoder in enumerate(KINDS):
        line = Line(task, column.tuned, column.batch, encoder)
        found = [
            100 * row["figures"][SHOWN[task].figure] for row in of(rows, line, norm)
        ]
        if not found:
            continue
        at, mean = x + shift, sum(found) / len(found)
        style = {"color": color, "mfc": color if column.filled else "white"}
        panel.plot([at] * len(found), found, column.marker, ms=4, label=label, **style)
        panel.plot([at - 0.05, at + 0.05], [mean, mean], color=color, lw=2)
