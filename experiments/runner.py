"""Does one run of a grid: a `python -m byol_bnfree.train` process, up to its row.

`places` finds the state of the run. `train` resumes it if it was interrupted.
"""

import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from byol_bnfree.files import append_row, last_json, write_json
from byol_bnfree.machine.jax_settings import QUICK_TO_COMPILE
from byol_bnfree.training.divergence import DIVERGED
from byol_bnfree.training.judge import COLLAPSED
from experiments.grid import Run
from experiments.parsing import effective
from experiments.places import ROW, Places
from experiments.results import Row, make_row, rounded
from experiments.slots import MACHINE, Slot

STOP = "--on-collapse=stop"
"""Flag of the runs of a grid with `--stop-collapsed`."""
UNMEASURED = "not measured yet"
"""Stands for the layers in a row that is not in results.jsonl yet."""


class Failure(NamedTuple):
    """A run that ended without a result."""

    run: Run
    why: str


class Processes:
    """The runs in progress. All can be told to save and end."""

    def __init__(self):
        self._running: set[subprocess.Popen] = set()
        self._lock, self.stopped = threading.Lock(), False

    def start(
        self,
        command: list[str],
        environment: Mapping[str, str],
        stderr: int = subprocess.STDOUT,
    ) -> subprocess.Popen | None:
        """Start a process in its own session; None after `stop`.

        A Ctrl-C at the terminal then reaches it once, through `stop`.
        """
        with self._lock:
            if self.stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, *command],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                errors="replace",
                start_new_session=True,
                env=os.environ | environment,
            )
            self._running.add(process)
            return process

    def ended(self, process: subprocess.Popen) -> None:
        """Forget a process that has ended."""
        with self._lock:
            self._running.discard(process)

    def stop(self) -> None:
        """Tell all processes to save and end. No process starts afterwards."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                process.terminate()


def train_command(
    run: Run, workdir: Path, data_dir: str | None, stop_collapsed: bool
) -> list[str]:
    """Return the command of a run, without the interpreter."""
    stop = [STOP] if stop_collapsed else []
    data = [f"--data-dir={data_dir}"] if data_dir else []
    module = ["-m", "byol_bnfree.train"]
    flags = (*run.flags, *stop, *data, f"--workdir={workdir}")
    return [*module, *effective(flags)]


def describe(row: Row) -> str:
    """Describe a row in a few words."""
    summary = row["summary"]
    if summary is None and row.get("collapsed"):
        return "stopped because it had collapsed"
    if summary is None:
        return "diverged: its numbers were no longer finite"
    figures = [
        f"{title} {100 * summary[name]['trained']:.1f} %"
        for name, title in (("knn", "kNN"), ("linear", "linear"))
        if summary[name]["trained"] is not None
    ]
    return ", ".join([*figures, summary["collapse"]["verdict"]])


def recall(run: Run, places: Places, processes: Processes | None = None) -> Row:
    """Return the row of a finished run. A row of another experiment is copied."""
    found = places.known(run)
    own = {"experiment": run.experiment, "arm": run.arm}
    row = found.row | own
    changed = row != found.row or row.get("layers") == UNMEASURED
    if changed or not places.has_row(run):
        row = _finish(run, row, found.workdir, places, processes or Processes())
    return row


def _finish(
    run: Run,
    row: Row,
    workdir: Path,
    places: Places,
    processes: Processes,
    slot: Slot = MACHINE,
) -> Row:
    """Measure the layers of a run's work folder if they are missing; keep the row.

    If the queue is stopped meanwhile, the next one measures them.
    """
    if row.get("layers") == UNMEASURED:
        trained_on = (row["environment"] or {}).get("backend", "cpu")
        layers = _layers(workdir, trained_on, slot, processes)
        if processes.stopped and layers is None:
            return row
        row["layers"] = rounded(layers)
    _keep(run, row, places)
    return row


def _keep(run: Run, row: Row, places: Places) -> None:
    append_row(places.rows(run.experiment), row)
    places.workdir(run).mkdir(parents=True, exist_ok=True)
    write_json(places.workdir(run) / ROW, row)


def do(
    run: Run,
    places: Places,
    processes: Processes,
    slot: Slot = MACHINE,
) -> Row | Failure:
    """Do one run from its present state to its row."""
    workdir, resumed = places.workdir(run), places.state(run) == "interrupted"
    stop = places.stop_collapsed
    command = train_command(run, workdir, places.data_dir, stop)
    recorded = train_command(run, Path("WORKDIR"), "DATA", stop)
    workdir.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    status, last = _train(command, workdir / "train.log", processes, slot)
    if status not in (0, DIVERGED, COLLAPSED):
        return Failure(run, f"train ended with status {status}: {last}")
    row = make_row(
        run,
        workdir,
        shlex.join(["python", *recorded]),
        resumed=resumed,
        wall_seconds=time.monotonic() - began,
        load_average=os.getloadavg()[0],
        diverged=last if status == DIVERGED else None,
        collapsed=last if status == COLLAPSED else None,
        layers=UNMEASURED if status == 0 else None,
    )
    write_json(workdir / ROW, row)  # a command that is killed now loses no run
    return _finish(run, row, workdir, places, processes, slot)


def _train(
    command: list[str], log: Path, processes: Processes, slot: Slot
) -> tuple[int, str]:
    """Run a command; show and log its output. Return its status and last line."""
    last = "it said nothing"
    where = "" if slot == MACHINE else f"{slot.name}: "  # runs side by side
    process = processes.start(command, slot.environment)
    if process is None:
        return -1, "the queue was ended"
    try:
        with log.open("a") as file:
            for line in process.stdout:
                file.write(line)
                file.flush()
                _say(f"    {where}{line.rstrip()}")
                last = line.strip() or last
        return process.wait(), last
    finally:
        if process.poll() is None:  # interrupted: it saves, and can be resumed
            process.terminate()
            process.wait()
        processes.ended(process)


def _layers(workdir: Path, backend: str, slot: Slot, processes: Processes) -> Any:
    """Measure the layers where the run was trained.

    If that fails, the reason is printed, and the result is None.
    """
    environment = dict(slot.environment)
    if backend == "cpu":
        environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK_TO_COMPILE}
    else:  # other runs may have other devices
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = ["-m", "experiments.layers", str(workdir)]
    process = processes.start(command, environment, subprocess.PIPE)
    if process is None:
        return None
    try:
        out, said = process.communicate()
    finally:
        processes.ended(process)
    if process.returncode:
        lines = said.strip().splitlines() or ["no message"]
        _say(f"    layers were not measured: {lines[-1]}")
        return None
    return last_json(out)


def _say(text: str) -> None:
    print(text, flush=True)
