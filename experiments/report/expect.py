"""docs/what_to_expect.md: curves of good runs, and what is usual at each epoch.

    python -m experiments.report.expect RUN [RUN ...]

RUN is the work folder of a finished run, or a results.jsonl with runs of the arms `bn`
and `gn_ws`. The page is made from their metrics alone.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.diagnostics.verdict import COLLAPSED
from byol_bnfree.errors import InputError
from byol_bnfree.flags import cli
from experiments.pages.blocks import Table, to_markdown
from experiments.pages.style import (
    NORM_COLORS,
    End,
    label_ends,
    labelled_axis,
    log_axis,
    styled,
    svg,
)
from experiments.report.conditions import machine
from experiments.report.finished_runs import APART, ARMS, Run, read_runs, value_at

DOCS = Path(__file__).parents[2] / "docs"
EPOCHS = (1, 2, 5, 10, 30)
MEASURES = {
    "train/loss": ("BYOL loss", 1),
    "collapse/feature_std": ("spread of representations", 1),
    "collapse/centered_rank": ("effective rank, centred", 1),
    APART: ("1 - negative cosine of projections", 1),
    "knn/top1": ("kNN, %", 100),
}
SEED = re.compile(r"--seed=(\d+)")
PROSE = Path(__file__).with_suffix(".md")
"""The text of the page; the ranges are filled in."""


@dataclass(frozen=True)
class Arguments:
    """Write docs/what_to_expect.md."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Work folders, or files named results.jsonl."""


def main(arguments: Arguments) -> None:
    """Write the page and its pictures.

    Raises:
      InputError: if there is no run of `bn` or `gn_ws`.
    """
    runs = [run for path in arguments.runs for run in read_runs(path)]
    if not runs:
        raise InputError(
            "no finished run of bn or gn_ws is given; name work folders, or a "
            "results.jsonl such as experiments/norm_comparison/results.jsonl."
        )
    write_page(runs, DOCS)
    print(DOCS / "what_to_expect.md")


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
            ("apart", APART),
        )
    }
    least = {
        "least_spread": COLLAPSED["feature_std"],
        "least_rank": COLLAPSED["centered_rank"],
        "least_apart": COLLAPSED["1 - negative_cosine"],
    }
    return PROSE.read_text().format(**last, **least, **_falls(runs))


def _falls(runs: Sequence[Run]) -> dict[str, str]:
    """Say how many runs of bn lost a fifth of their spread early, and how much."""
    found = [round(100 * _largest_fall(run)) for run in runs if run.arm == "bn"]
    large = [fall for fall in found if fall >= 20]
    span = " to ".join(str(x) for x in sorted({min(large), max(large)})) if large else 0
    return {"falls": f"{len(large)} of the {len(found)}", "fall": f"{span} %"}


def _largest_fall(run: Run) -> float:
    """Return the largest relative fall of the spread between epochs 1 and 10."""
    steps, values = run.curves.get("collapse/feature_std") or ([], [])
    highest, fall = 0.0, 0.0
    for step, value in zip(steps, values, strict=True):
        if value is not None and 1 <= step / run.per_epoch <= 10:
            highest = max(highest, value)
            fall = max(fall, 1 - value / highest) if highest else fall
    return fall


def _values(runs: Sequence[Run]) -> Iterator[str]:
    """A table of each measure at a few epochs."""
    yield f"## At epochs {', '.join(map(str, EPOCHS[:-1]))} and {EPOCHS[-1]}\n"
    yield (
        "Each cell has the lowest and the highest value of the runs, measured nearest "
        "to the epoch. A dash means that no run was measured within half an epoch.\n"
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
    found = [value_at(run, metric, epoch) for run in runs if run.arm == arm]
    known = [value * MEASURES[metric][1] for value in found if value is not None]
    if not known:
        return ""
    low, high = f"{min(known):.3g}", f"{max(known):.3g}"
    return low if low == high else f"{low} to {high}"


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
    seeds: dict[str, list[str]] = {}  # of each command
    for run in runs:
        command = SEED.sub("--seed=SEED", run.command)
        if run.differences:
            command = "\n    ".join([f"# {'; '.join(run.differences)}", command])
        found = seeds.setdefault(command, [])
        found += SEED.findall(run.command)
    commands = "\n".join(
        f"    {command}" + (f"  # SEED: {' '.join(found)}" if found else "")
        for command, found in seeds.items()
    )
    where = sorted({machine(dict(run.environment)) for run in runs})
    commits = sorted({str(r.environment.get("commit"))[:7] for r in runs})
    return (
        f"## The runs\n\n{len(runs)} runs. {' '.join(where)} Commits: "
        f"{', '.join(commits)}. `python -m experiments.report.expect` makes this page "
        f"from their `metrics.jsonl`.\n\n{commands}\n"
    )


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments, description=__doc__)))
