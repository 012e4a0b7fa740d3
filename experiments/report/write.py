"""report.md and report.html of an experiment, its README's table, and the index."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from byol_bnfree.data.workers import usable_cores
from byol_bnfree.files import write_atomically
from byol_bnfree.machine.own_process import process_pool
from experiments import GRIDS
from experiments.arguments import Arguments
from experiments.comparison import Comparison, compare
from experiments.grid import Experiment, load_experiment
from experiments.pages.blocks import (
    Block,
    Figures,
    Section,
    save_figures,
    table_markdown,
    to_markdown,
)
from experiments.pages.marks import filled
from experiments.report.content import blocks_of
from experiments.report.copies import copies
from experiments.report.index import index_of
from experiments.report.page import page
from experiments.report.tables import DEVIATION, accuracy_table, stopped_note
from experiments.results import read_results
from experiments.scales import SCALES, Scale

TITLE = "BYOL with and without batch statistics"
MORE = (
    "More in [report.md](report.md). "
    "[How to read these tables](../../docs/comparison.md)."
)


def write_all(
    folder: Path,
    say: Callable[[str], None] = print,
    scales: Mapping[str, Scale] = SCALES,
) -> Path:
    """Write the reports of the experiments with results in `folder`, and their index.

    Drawing takes seconds an experiment. Each core draws one at a time, and `say` is
    told of each that is done.
    """
    with process_pool(min(usable_cores(), len(GRIDS))) as pool:
        # The most results first, so that no core draws the longest report alone.
        largest = sorted(GRIDS, key=lambda name: -_size(folder, name))
        jobs = {
            name: pool.submit(_write_timed, name, folder, scales) for name in largest
        }
        for number, name in enumerate(GRIDS, 1):
            with Console().status(f"[{number}/{len(GRIDS)}] {name}"):
                done = jobs[name].result()
            say(f"[{number}/{len(GRIDS)}] {name}: {done}")
    found = [(e, _compared(e, folder, scales)) for e in map(load_experiment, GRIDS)]
    index = folder / "index.html"
    index.write_text(page(TITLE, [], below=index_of(found)))
    return index


def _size(folder: Path, name: str) -> int:
    """Return the bytes of the results of an experiment."""
    results = folder / name / "results.jsonl"
    return results.stat().st_size if results.exists() else 0


def _write_timed(name: str, folder: Path, scales: Mapping[str, Scale]) -> str:
    """Write one report, and say how many runs it has and how long that took."""
    began = time.monotonic()
    compared = write_report(load_experiment(name), folder, scales)
    runs = sum(len(c.rows) for c in compared)
    seconds = time.monotonic() - began
    return f"{runs} runs, {seconds:.0f} s" if compared else "no results"


def write_report(
    experiment: Experiment, folder: Path, scales: Mapping[str, Scale] = SCALES
) -> list[Comparison]:
    """Write the report in `folder`/NAME. Without results, only its README is filled."""
    own = folder / experiment.name
    compared = _compared(experiment, folder, scales)
    _fill_readme(own, lambda: readme_results(experiment, folder, scales))
    if not compared:
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
    text = "\n".join(filter(None, map(to_markdown, blocks)))
    (own / "report.md").write_text(f"# {experiment.question}\n\n{text}")
    return compared


def readme_results(
    experiment: Experiment, folder: Path, scales: Mapping[str, Scale] = SCALES
) -> str:
    """Return what stands between the marks of the experiment's README."""
    compared = _compared(experiment, folder, scales)
    if compared:
        return _results(compared, folder)
    return _not_run(experiment, folder, scales)


def _compared(
    experiment: Experiment, folder: Path, scales: Mapping[str, Scale]
) -> list[Comparison]:
    """Compare the arms at each scale that has results in `folder`."""
    rows = read_results(folder / experiment.name / "results.jsonl")
    run = {row["scale"] for row in rows}
    compared = [
        compare(experiment, scales[name], rows) for name in scales if name in run
    ]
    return [comparison for comparison in compared if comparison.results]


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
        answer = "\n".join(f"- {statement}" for statement in c.statements())
        parts.append(f"**{c.what}**\n\n{answer}\n\n{table}")
        if said := stopped_note(c):
            parts.append(f"{said}\n")
        if said := copies(c.experiment, c.scale, folder):
            parts.append(f"{said}\n")
    if not parts:
        return ""
    several = any(len(r.rows) > 1 for c in compared for r in c.results.values())
    more = f"{DEVIATION} {MORE}" if several else MORE
    return "\n".join([*parts, f"{more}\n"])


def _fill_readme(own: Path, results: Callable[[], str]) -> None:
    """Write the results between the marks of the README in `own`, if there are any."""
    readme = own / "README.md"
    if readme.exists() and (body := results()):
        text = filled(readme.read_text(), "results", body)
        write_atomically(readme, text.encode())
