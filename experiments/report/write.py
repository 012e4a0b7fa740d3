"""report.md and report.html of an experiment, its README's table, and the index."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from byol_bnfree.data.workers import usable_cores
from byol_bnfree.files import write_atomically
from byol_bnfree.machine.own_process import process_pool
from experiments import GRIDS
from experiments.arguments import Arguments
from experiments.comparison import Comparison, compare, older_rows
from experiments.grid import Experiment, load_experiment
from experiments.pages.blocks import (
    Block,
    Figures,
    Section,
    Text,
    save_figures,
    table_markdown,
    to_markdown,
)
from experiments.pages.lock import writing
from experiments.pages.marks import filled
from experiments.report.content import blocks_of
from experiments.report.copies import copies
from experiments.report.index import index_of
from experiments.report.page import page
from experiments.report.tables import (
    DEVIATION,
    accuracy_table,
    arms_note,
    stopped_note,
)
from experiments.results import read_results
from experiments.scales import SCALES, Scale

TITLE = "BYOL with and without batch statistics"
MORE = (
    "More in [report.md](report.md). "
    "[How to read these tables](../../docs/comparison.md)."
)


class Found(NamedTuple):
    """What a folder of results has of an experiment."""

    compared: list[Comparison]
    """Those with results, one for each scale."""
    older: int
    """Number of rows whose settings no arm has today."""

    @property
    def left_out(self) -> str:
        """Say how many rows are older; empty if none is."""
        rows = "row has" if self.older == 1 else "rows have"
        said = f"{self.older} {rows} settings that no arm has today"
        return said if self.older else ""

    @property
    def note(self) -> str:
        """Say it in a sentence beside tables; empty if no row is older."""
        return f"{self.left_out}, so no table here has them." if self.older else ""


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
    index, experiments = folder / "index.html", map(load_experiment, GRIDS)
    with writing(folder):
        found = [(e, _found(e, folder, scales).compared) for e in experiments]
        index.write_text(page(TITLE, [], below=index_of(found)))
    return index


def _size(folder: Path, name: str) -> int:
    """Return the bytes of the results of an experiment."""
    results = folder / name / "results.jsonl"
    return results.stat().st_size if results.exists() else 0


def _write_timed(name: str, folder: Path, scales: Mapping[str, Scale]) -> str:
    """Write one report, and say how many runs it has and how long that took."""
    began = time.monotonic()
    found = write_report(load_experiment(name), folder, scales)
    runs = sum(len(c.rows) for c in found.compared)
    seconds = time.monotonic() - began
    done = f"{runs} runs, {seconds:.0f} s" if found.compared else "no results"
    return "; ".join(filter(None, (done, found.left_out)))


def write_report(
    experiment: Experiment, folder: Path, scales: Mapping[str, Scale] = SCALES
) -> Found:
    """Write the report in `folder`/NAME, and fill its README.

    Without results there is no report afterwards.
    """
    own = folder / experiment.name
    if not own.is_dir():
        return Found([], 0)
    with writing(own):
        found = _found(experiment, folder, scales)
        _fill_readme(own, _readme_of(found, experiment, folder, scales))
        _write_pages(own, experiment.question, _blocks(found))
    return found


def _blocks(found: Found) -> list[Block]:
    """Return the content of a report: a section for each scale if there are several.

    Without results it is empty.
    """
    compared = found.compared
    if not compared:
        return []
    blocks = blocks_of(compared[0])
    if len(compared) > 1:
        blocks = [
            Section(f"{c.scale.name} scale", _of_scale(blocks_of(c), c.scale.name))
            for c in compared
        ]
    return [*blocks, *([Text(found.note)] if found.note else [])]


def _write_pages(own: Path, question: str, blocks: Sequence[Block]) -> None:
    """Write report.html, report.md and its figures; remove them if there is nothing."""
    for old in (own / "figures").glob("*.svg"):
        old.unlink()  # of arms and measures that are no more
    if not blocks:
        for name in ("report.html", "report.md"):
            (own / name).unlink(missing_ok=True)
        return
    link = '<p><a href="../index.html">All experiments</a></p>'
    (own / "report.html").write_text(page(question, blocks, above=link))
    save_figures(blocks, own / "figures")
    text = "\n".join(filter(None, map(to_markdown, blocks)))
    (own / "report.md").write_text(f"# {question}\n\n{text}")


def readme_results(
    experiment: Experiment, folder: Path, scales: Mapping[str, Scale] = SCALES
) -> str:
    """Return what stands between the marks of the experiment's README."""
    found = _found(experiment, folder, scales)
    return _readme_of(found, experiment, folder, scales)


def _readme_of(
    found: Found, experiment: Experiment, folder: Path, scales: Mapping[str, Scale]
) -> str:
    """Return the results of all scales but smoke, which answers nothing."""
    shown = [c for c in found.compared if c.scale.name != "smoke"]
    if shown:
        return _results(shown, folder, found.note)
    return _not_run(experiment, folder, scales, found.note)


def _found(experiment: Experiment, folder: Path, scales: Mapping[str, Scale]) -> Found:
    """Compare the arms at each scale that has results in `folder`."""
    rows = read_results(folder / experiment.name / "results.jsonl")
    run = {row["scale"] for row in rows}
    known = [scale for name, scale in scales.items() if name in run]
    compared = [compare(experiment, scale, rows) for scale in known]
    older = [row for row in rows if row["scale"] not in scales]
    for scale in known:
        older += older_rows(experiment, scale, rows)
    return Found([c for c in compared if c.results], len(older))


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


def _not_run(
    experiment: Experiment, folder: Path, scales: Mapping[str, Scale], note: str
) -> str:
    """Say so for the scale that a command without `--scale` has."""
    scale = scales[Arguments.scale]
    said = f"Not run yet at {scale.name} scale."
    parts = (said, copies(experiment, scale, folder), note)
    return f"{' '.join(filter(None, parts))}\n"


def _results(compared: Sequence[Comparison], folder: Path, note: str) -> str:
    """Return answer, table and copied arms of each scale, and a link."""
    parts = []
    for c in compared:
        table = table_markdown(accuracy_table(c))
        answer = "\n".join(f"- {statement}" for statement in c.statements())
        parts.append(f"**{c.what}**\n\n{answer}\n\n{table}")
        notes = stopped_note(c), arms_note(c), copies(c.experiment, c.scale, folder)
        parts += [f"{said}\n" for said in notes if said]
    several = any(len(r.rows) > 1 for c in compared for r in c.results.values())
    last = (note, DEVIATION if several else "", MORE)
    return "\n".join([*parts, f"{' '.join(filter(None, last))}\n"])


def _fill_readme(own: Path, body: str) -> None:
    """Write the results between the marks of the README in `own`, if there are any."""
    readme = own / "README.md"
    if readme.exists():
        text = filled(readme.read_text(), "results", body)
        write_atomically(readme, text.encode())
