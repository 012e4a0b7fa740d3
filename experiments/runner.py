"""The runs of a grid one after another, each a `python -m byol_bnfree.train` process.

A work folder tells where its run stands: it is finished once it holds `row.json`, the
line that was added to results.jsonl, or once another experiment's folder of the same
settings and seed does. Everything else is left to `train`, which resumes what was
interrupted. A run that fails does not stop the others.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from byol_bnfree.files import write_json
from byol_bnfree.training.journal import DIVERGED
from experiments.grid import Run
from experiments.results import Row, append_row, make_row

ROW = "row.json"
State = Literal["finished", "interrupted", "new"]


class Places(NamedTuple):
    """Where a grid reads and writes."""

    runs: Path
    """Work folders, in EXPERIMENT/SCALE/."""
    results: Path
    """EXPERIMENT/results.jsonl and the report."""
    data_dir: str | None

    def workdir(self, run: Run) -> Path:
        return self.runs / run.experiment / run.scale / run.name

    def rows(self, experiment: str) -> Path:
        return self.results / experiment / "results.jsonl"

    def known(self, run: Run) -> Path | None:
        """The row of the run, or of the same run of another experiment."""
        own = self.workdir(run) / ROW
        same = f"*/{run.scale}/*-seed{run.seed}-{run.settings}/{ROW}"
        return own if own.exists() else next(self.runs.glob(same), None)

    def state(self, run: Run) -> State:
        """The state of the run."""
        if self.known(run):
            return "finished"
        files = (self.workdir(run) / name for name in ("checkpoints", "summary.json"))
        return "interrupted" if any(file.exists() for file in files) else "new"


class Failure(NamedTuple):
    """A run that ended without a result."""

    run: Run
    why: str


def train_command(run: Run, workdir: Path, data_dir: str | None) -> list[str]:
    """The command of a run, without the interpreter."""
    data = [f"--data-dir={data_dir}"] if data_dir else []
    module = ["-m", "byol_bnfree.train"]
    return [*module, *run.flags, *data, f"--workdir={workdir}"]


def run_grid(runs: Sequence[Run], places: Places) -> list[Failure]:
    """Do every run that is not finished; returns those that failed."""
    failures, began, done = [], time.monotonic(), 0
    open_runs = [run for run in runs if places.state(run) != "finished"]
    with _end_on_sigterm():
        for number, run in enumerate(runs, 1):
            title = f"[{number}/{len(runs)}] {run.arm} seed {run.seed}"
            state = places.state(run)
            if state == "finished":
                _say(f"{title}: finished before: {describe(_recall(run, places))}")
                continue
            left = ""
            if done:
                each = (time.monotonic() - began) / done
                left = f"; about {each * (len(open_runs) - done) / 60:.0f} minutes left"
            _say(f"{title}: {'resumes' if state == 'interrupted' else 'starts'}{left}")
            row = _do(run, places)
            done += 1
            if isinstance(row, Failure):
                failures.append(row)
                log = places.workdir(run) / "train.log"
                _say(f"{title}: FAILED: {row.why} All it said: {log}")
            else:
                _say(
                    f"{title}: {describe(row)}; {row['wall_seconds'] / 60:.1f} minutes"
                )
    return failures


def describe(row: Row) -> str:
    """A row in a few words."""
    summary = row["summary"]
    if summary is None:
        return "diverged: its numbers were no longer finite"
    figures = [
        f"{title} {100 * summary[name]['trained']:.1f} %"
        for name, title in (("knn", "kNN"), ("linear", "linear"))
        if summary[name]["trained"] is not None
    ]
    return ", ".join([*figures, summary["collapse"]["verdict"]])


def _recall(run: Run, places: Places) -> Row:
    """The row of a finished run; that of another experiment becomes one of this too."""
    row = json.loads(places.known(run).read_text())
    own = {"experiment": run.experiment, "arm": run.arm}
    if row != row | own:
        row |= own
        _keep(run, row, places)
    return row


def _keep(run: Run, row: Row, places: Places) -> None:
    append_row(places.rows(run.experiment), row)
    places.workdir(run).mkdir(parents=True, exist_ok=True)
    write_json(places.workdir(run) / ROW, row)


def _do(run: Run, places: Places) -> Row | Failure:
    """One run from wherever it stands to its row."""
    workdir, resumed = places.workdir(run), places.state(run) == "interrupted"
    command = train_command(run, workdir, places.data_dir)
    workdir.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    status, last = _train(command, workdir / "train.log")
    if status not in (0, DIVERGED):
        return Failure(run, f"train ended with status {status}: {last}")
    row = make_row(
        run,
        workdir,
        shlex.join(["python", *train_command(run, Path("WORKDIR"), "DATA")]),
        resumed=resumed,
        wall_seconds=time.monotonic() - began,
        load_average=os.getloadavg()[0],
        diverged=last if status == DIVERGED else None,
        layers=_layers(workdir) if status == 0 else None,
    )
    _keep(run, row, places)
    return row


def _train(command: list[str], log: Path) -> tuple[int, str]:
    """Exit status and last line; what it prints is shown and added to the log.

    In a session of its own: an interrupt at the terminal reaches it once, from here.
    """
    last = "it said nothing"
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        with log.open("a") as file:
            for line in process.stdout:
                file.write(line)
                file.flush()
                _say(f"    {line.rstrip()}")
                last = line.strip() or last
        return process.wait(), last
    finally:
        if process.poll() is None:  # interrupted: it saves, and is resumed next time
            process.terminate()
            process.wait()


def _layers(workdir: Path) -> Any:
    """Numbers of the layers; None, and why, where they cannot be measured."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # runs once, compiles faster
    }
    command = [sys.executable, "-m", "experiments.layers", str(workdir)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        _say(f"    layers were not measured: {lines[-1]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def _end_on_sigterm() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that the run in progress is told to save."""

    def stop(number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str) -> None:
    print(text, flush=True)
