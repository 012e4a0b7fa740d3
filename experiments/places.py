"""Where a grid keeps its runs, and which of them are finished.

The work folder shows the state of a run. It is finished if the folder holds `row.json`,
the line that was added to results.jsonl. It is also finished if a results.jsonl has its
line from another machine. A finished run of another experiment with the same scale,
settings and seed is the same run.
"""

import functools
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from byol_bnfree.files import read_json, read_rows
from experiments import GRIDS
from experiments.grid import Run
from experiments.results import Row, moment, read_results

ROW = "row.json"
State = Literal["finished", "interrupted", "new"]


class Found(NamedTuple):
    """The row of a finished run, and the work folder of the run."""

    row: Row
    workdir: Path


class Places(NamedTuple):
    """The folders that a grid reads and writes."""

    runs: Path
    """Folder of the work folders, EXPERIMENT/SCALE/."""
    results: Path
    """Folder of EXPERIMENT/results.jsonl and the report."""
    data_dir: str | None
    stop_collapsed: bool = False
    """End a run that collapses, and count it as finished. It has no accuracy then.
    Without this it goes on."""

    def workdir(self, run: Run) -> Path:
        return self.runs / run.experiment / run.scale / run.name

    def claim(self, run: Run) -> Path:
        """Return the file that a command locks while it does the run.

        It is one file for equal runs of several experiments.
        """
        return self.runs / ".claims" / "-".join(map(str, run.training))

    def rows(self, experiment: str) -> Path:
        return self.results / experiment / "results.jsonl"

    def known(self, run: Run) -> "Found | None":
        """Find the row of the run, or of the same run in another experiment."""
        return next((f for f in self._candidates(run) if self.counts(f.row)), None)

    def counts(self, row: Row) -> bool:
        """Say if a row is a finished run; a stopped one is with `stop_collapsed`."""
        return self.stop_collapsed or not row.get("collapsed")

    def has_row(self, run: Run) -> bool:
        """Say if the experiment's results.jsonl has the run under its own name."""
        own = (run.scale, run.arm, run.seed, run.settings)
        return any(
            (row["scale"], row["arm"], row["seed"], row["settings"]) == own
            for row in _rows_of(self.rows(run.experiment))
            if self.counts(row)
        )

    def _candidates(self, run: Run) -> Iterator["Found"]:
        """Yield the rows of equal runs: those of work folders, and then those of every
        experiment's results.jsonl. Its own rows go first, then the newest.

        The work folder of a row of results.jsonl may be missing. Such a row has all
        figures, so nothing needs the folder.
        """
        same = f"*/{run.scale}/*-seed{run.seed}-{run.settings}/{ROW}"
        own = self.workdir(run) / ROW
        for file in chain([own] * own.exists(), self.runs.glob(same)):
            row = read_json(file)
            if row is not None:  # another command may remove it meanwhile
                yield Found(row, file.parent)
        equal = [
            row
            for row in equal_rows(
                self.results, run.scale, run.settings, first=run.experiment
            )
            if row["seed"] == run.seed
        ]
        # Its own row goes before a copy of another's. The sort keeps the order else.
        own_name = (run.experiment, run.arm)
        equal.sort(key=lambda row: (row["experiment"], row["arm"]) != own_name)
        yield from (Found(row, self.workdir(run)) for row in equal)

    def state(self, run: Run) -> State:
        """Return the state of the run."""
        if self.known(run) is not None:
            return "finished"
        files = (self.workdir(run) / name for name in ("checkpoints", "summary.json"))
        return "interrupted" if any(file.exists() for file in files) else "new"

    def done(self, run: Run) -> float:
        """Return the share of an unfinished run that its log has, from 0 to 1."""
        workdir = self.workdir(run)
        config, log = read_json(workdir / "config.json"), workdir / "metrics.jsonl"
        logged = [row for row in read_rows(log) if "epoch" in row] if config else []
        if not logged:
            return 0.0
        last = logged[-1]
        if config["steps"] is not None:
            return last["step"] / config["steps"]
        return min(last["epoch"] / config["epochs"], 1.0)


def equal_rows(
    results: Path, scale: str, settings: str, *, first: str
) -> Iterator[Row]:
    """Yield the rows with these settings of all experiments in the folder `results`.

    Those of the experiment `first` go first, and newer rows before older ones.
    """
    for name in dict.fromkeys((first, *GRIDS)):
        rows = _rows_of(results / name / "results.jsonl")
        for row in sorted(rows, key=moment, reverse=True):
            if (row["scale"], row["settings"]) == (scale, settings):
                yield row


def _rows_of(path: Path) -> list[Row]:
    """Read a results.jsonl, once until it changes."""
    if not path.exists():
        return []
    now = path.stat()
    return _read_once(path, now.st_mtime_ns, now.st_size)


@functools.lru_cache(maxsize=32)
def _read_once(path: Path, _changed: int, _size: int) -> list[Row]:
    return read_results(path)
