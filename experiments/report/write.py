"""report.md and report.html of an experiment, its README's table, and the index."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from byol_bnfree.files import read_rows
from experiments import GRIDS
from experiments.arguments import Arguments
from experiments.comparison import Comparison, compare
from experiments.grid import Experiment, load_experiment
from experiments.report.blocks import (
    Block,
    Figures,
    Section,
    save_figures,
    table_markdown,
    to_markdown,
)
from experiments.report.content import blocks_of
from experiments.report.copies import copies
from experiments.report.index import index_of
from experiments.report.page import page
from experiments.report.tables import DEVIATION, accuracy_table
from experiments.scales import SCALES, Scale

TITLE = "BYOL with and without batch statistics"
MARKS = re.compile(r"(<!-- results -->\n).*(<!-- /results -->)", re.DOTALL)


def write_all(
    folder: Path,
    say: Callable[[str], None] = print,
    scales: Mapping[str, Scale] = SCALES,
) -> Path:
    """Write the reports of the experiments with results in `folder`, and their index.

    Drawing takes seconds an experiment; `say` is told of each that is done.
    """
    found = []
    for number, name in enumerate(GRIDS, 1):
        began = time.monotonic()
        experiment = load_experiment(name)
        with Console().status(f"[{number}/{len(GRIDS)}] {name}"):
            compared = write_report(experiment, folder, scales)
        found.append((experiment, compared))
        runs = sum(len(c.rows) for c in compared)
        seconds = time.monotonic() - began
        done = f"{runs} runs, {seconds:.0f} s" if compared else "no results"
        say(f"[{number}/{len(GRIDS)}] {name}: {done}")
    index = folder / "index.html"
    index.write_text(page(TITLE, [], below=index_of(found)))
    return index


def write_report(
    experiment: Experiment, folder: Path, scales: Mapping[str, Scale] = SCALES
) -> list[Comparison]:
    """Write the report in `folder`/NAME. Without results, only its README is filled."""
    own = folder / experiment.name
    rows = read_rows(own / "results.jsonl")
    run = {row["scale"] for row in rows}
    compared = [
        compare(experiment, scales[name], rows) for name in scales if name in run
    ]
    compared = [comparison for comparison in compared if comparison.results]
    if not compared:
        _fill_readme(own, lambda: _not_run(experiment, folder, scales))
        return []
    blocks = blocks_of(compared[0])
    if len(compared) > 1:
        blocks = [
            Section(f"{c.scale.name} scale", _of_scale(blocks_of(c), c.scale.name))
            for c in compared
        ]
    link = '<p><a href="../index.html">All experiments</a></p>'
    (own / "report.html").write_text(page(experiment.question, blocks, above=link))
    for old in (own / "figures").glob("*.svg"):
        old.unlink()  # of arms and measures that are no more
    save_figures(blocks, own / "figures")
    text = "\n".join(to_markdown(block) for block in blocks)
    (own / "report.md").write_text(f"# {experiment.question}\n\n{text}")
    _fill_readme(own, lambda: _results(compared, folder))
    return compared


def _of_scale(blocks: Sequence[Block], scale: str) -> list[Block]:
    """Put the scale into the names of figures: each scale has its own files."""
    named = []
    for block in blocks:
        if isinstance(block, Figures):
            own = [replace(f, name=f"{scale}_{f.name}") for f in block.figures]
            block = replace(block, figures=own)
        elif isinstance(block, Section):
            block = replace(block, blocks=_of_scale(block.blocks, scale))
        named.append(block)
    return named


def _not_run(experiment: Experiment, folder: Path, scales: Mapping[str, Scale]) -> str:
    """Say so for the scale that a command without `--scale` has."""
    scale = scales[Arguments.scale]
    text = f"Not run yet at {scale.name} scale. {copies(experiment, scale, folder)}"
    return f"{text.strip()}\n"


def _results(compared: Sequence[Comparison], folder: Path) -> str:
    """Return answer, table and copied arms of each scale but smoke, and a link."""
    parts = []
    for c in (c for c in compared if c.scale.name != "smoke"):
        table = table_markdown(accuracy_table(c))
        parts.append(f"{c.what}: **{c.answer()}**\n\n{table}")
        if said := copies(c.experiment, c.scale, folder):
            parts.append(f"{said}\n")
    if not parts:
        return ""
    several = any(len(r.rows) > 1 for c in compared for r in c.results.values())
    more = f"{DEVIATION} " * several + "More in [report.md](report.md).\n"
    return "\n".join([*parts, more])


def _fill_readme(own: Path, results: Callable[[], str]) -> None:
    """Write the results between the marks of the README in `own`, if there are any."""
    readme = own / "README.md"
    if readme.exists() and (body := results()):
        text = readme.read_text()
        readme.write_text(MARKS.sub(lambda m: f"{m[1]}{body}{m[2]}", text))
