"""docs/what_to_expect.md: curves of good runs, and what is usual at each epoch.

    python -m experiments.report.expect RUN [RUN ...]

RUN is the work folder of a finished run, or a results.jsonl with runs of the arms `bn`
and `gn_ws`. The page is made from their metrics alone.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.diagnostics.verdict import COLLAPSED
from byol_bnfree.errors import InputError
from experiments.report.blocks import Table, to_markdown
from experiments.report.conditions import machine
from experiments.report.style import (
    NORM_COLORS,
    End,
    label_ends,
    labelled_axis,
    log_axis,
    styled,
    svg,
)
from experiments.results import curves, read_rows

DOCS = Path(__file__).parents[2] / "docs"
EPOCHS = (1, 5, 10, 30)
MEASURES = {
    "train/loss": ("BYOL loss", 1),
    "collapse/feature_std": ("spread of representations", 1),
    "collapse/centered_rank": ("effective rank, centred", 1),
    "knn/top1": ("kNN, %", 100),
}
ARMS = ("bn", "gn_ws")
PROSE = Path(__file__).with_suffix(".md")
"""The text of the page; the ranges are filled in."""


class Run(NamedTuple):
    """A finished run."""

    arm: str
    curves: Mapping[str, Sequence[Sequence[float | None]]]
    """Maps a metric to its steps and values."""
    per_epoch: float
    """Number of steps in an epoch."""
    command: str
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Arguments:
    """Write docs/what_to_expect.md."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Work folders, or files named results.jsonl."""


def main(arguments: Arguments) -> None:
    """Write the page and its pictures."""
    write_page([run for path in arguments.runs for run in read(path)], DOCS)
    print(DOCS / "what_to_expect.md")


def read(path: Path) -> list[Run]:
    """The runs of a work folder or a results.jsonl.

    Raises: InputError where there is no metric.
    """
    if path.suffix == ".jsonl":
        rows = [row for row in read_rows(path) if row["arm"] in ARMS]
        newest = {(r["scale"], r["arm"], r["seed"]): r for r in rows}
        return [_run(r["arm"], r, _whole(r)) for r in newest.values()]
    rows = read_rows(path / "metrics.jsonl")
    if not rows:
        raise InputError(f"{path / 'metrics.jsonl'} has no row; give a finished run.")
    names = ("summary", "environment", "config")
    row = {n: json.loads((path / f"{n}.json").read_text()) for n in names}
    argv = row["environment"]["argv"][1:]
    flags = [x for x in argv if not x.startswith(("--workdir", "--data-dir"))]
    row["command"] = " ".join(["python -m byol_bnfree.train", *flags])
    found = curves(rows)
    if row["config"]["evaluation"]["knn_every_epochs"]:  # else of fewer images
        found["knn/top1"] = _with_ends(found.get("knn/top1"), row["summary"])
    return [_run(row["summary"]["norm"], row, found)]


def _whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """The curves of a row of results.jsonl, kNN from before training to the end."""
    found = row["curves"]
    return found | {"knn/top1": _with_ends(found.get("knn/top1"), row["summary"])}


def _with_ends(curve: Sequence | None, summary: Mapping[str, Any]) -> list[list]:
    """kNN over time between that of the untrained network and that of the end."""
    steps, values = curve or ([], [])
    knn, last = summary["knn"], summary["steps"]
    inside = [(s, v) for s, v in zip(steps, values, strict=True) if s < last]
    all_points = [(0, knn["untrained"]), *inside, (last, knn["trained"])]
    return [list(column) for column in zip(*all_points, strict=True)]


def _run(arm: str, row: Mapping[str, Any], found: Mapping[str, Any]) -> Run:
    steps, epochs = found["epoch"]
    per_epoch = steps[-1] / epochs[-1]
    return Run(arm, found, per_epoch, row["command"], row["environment"])


def write_page(runs: Sequence[Run], docs: Path) -> None:
    """The page in `docs`, its pictures in `docs`/figures."""
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    pictures = []
    for metric, (title, _) in MEASURES.items():
        name = f"expect_{metric.replace('/', '_')}.svg"
        (docs / "figures" / name).write_bytes(_draw(runs, metric))
        pictures.append(f"![{title} over the epochs](figures/{name})\n")
    body = "\n".join(
        [_prose(runs), *_values(runs), "## Curves\n", *pictures, _from(runs)]
    )
    (docs / "what_to_expect.md").write_text(body)


def _prose(runs: Sequence[Run]) -> str:
    """The text, with the ranges of the last values."""
    last = {
        name: ", ".join(
            f"{arm} {span}" for arm in ARMS if (span := _span(runs, arm, metric, None))
        )
        for name, metric in (
            ("loss", "train/loss"),
            ("spread", "collapse/feature_std"),
            ("rank", "collapse/centered_rank"),
        )
    }
    least = {
        "least_spread": COLLAPSED["feature_std"],
        "least_rank": COLLAPSED["centered_rank"],
    }
    return PROSE.read_text().format(**last, **least)


def _values(runs: Sequence[Run]) -> Iterator[str]:
    """A table of each measure at a few epochs."""
    yield "## At epochs 1, 5, 10 and 30\n"
    yield (
        "Lowest and highest of the runs, at the measurement nearest to the epoch. A "
        "dash means that none is within one epoch.\n"
    )
    head = ("measure", "arm", *(f"epoch {epoch}" for epoch in EPOCHS), "end")
    lines = [
        (title, arm, *(_span(runs, arm, metric, e) or "-" for e in (*EPOCHS, None)))
        for metric, (title, _) in MEASURES.items()
        for arm in ARMS
    ]
    yield to_markdown(Table(head, lines, words=(0, 1)))


def _span(runs: Sequence[Run], arm: str, metric: str, epoch: float | None) -> str:
    """Return an arm's lowest and highest value at an epoch, or at the end (None)."""
    found = [at(run, metric, epoch) for run in runs if run.arm == arm]
    known = [value * MEASURES[metric][1] for value in found if value is not None]
    if not known:
        return ""
    low, high = f"{min(known):.3g}", f"{max(known):.3g}"
    return low if low == high else f"{low} to {high}"


def at(run: Run, metric: str, epoch: float | None) -> float | None:
    """The value nearest to the end of an epoch, the later of two; None further than an
    epoch off.
    """
    steps, values = run.curves.get(metric) or ([], [])
    known = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
    if not known:
        return None
    if epoch is None:
        return known[-1][1]
    wanted = epoch * run.per_epoch
    trained = [pair for pair in known if pair[0] > 0]
    if not trained:
        return None
    step, value = min(trained, key=lambda pair: (abs(pair[0] - wanted), -pair[0]))
    return value if abs(step - wanted) <= run.per_epoch + 1 else None


def _draw(runs: Sequence[Run], metric: str) -> bytes:
    title, factor = MEASURES[metric]
    with styled():
        axis = labelled_axis(ARMS, 2.9)
        ends = {}
        for run in runs:
            steps, values = run.curves.get(metric) or ([], [])
            epochs = np.array(steps, float) / run.per_epoch
            heights = factor * np.array([np.nan if v is None else v for v in values])
            color = NORM_COLORS.get(run.arm, "black")
            style = ".-" if len(epochs) < 20 else "-"
            axis.plot(epochs, heights, style, color=color, lw=1)
            if len(epochs):
                end = End(run.arm, epochs[-1], heights[-1], color, run.arm)
                # The longest run of an arm bears its name, at the edge of the figure.
                ends[run.arm] = max(ends.get(run.arm, end), end, key=lambda e: e.x)
        if metric == "train/loss" and ends:
            log_axis(axis)
        axis.set(xlabel="epoch", title=title)
        axis.title.set_fontsize(9)
        label_ends(axis, list(ends.values()))
        return svg(axis.figure)


def _from(runs: Sequence[Run]) -> str:
    """Commands and machines."""
    commands = "\n".join(f"    {c}" for c in dict.fromkeys(r.command for r in runs))
    where = sorted({machine(dict(run.environment)) for run in runs})
    commits = sorted({str(r.environment.get("commit"))[:7] for r in runs})
    return (
        f"## The runs\n\n{len(runs)} runs. {' '.join(where)} Commits: "
        f"{', '.join(commits)}. `python -m experiments.report.expect` makes this page "
        f"from their `metrics.jsonl`.\n\n{commands}\n"
    )


if __name__ == "__main__":
    exit_on_error(lambda: main(tyro.cli(Arguments, description=__doc__)))
