"""A soak: memory, open files and compilations do not grow after the first 200 steps.

    python tests/survival/soak.py 2000

Runs `python -m byol_bnfree.train --config=configs/smoke.py` with a checkpoint at every
100th step, and reads the run's process in /proc (Linux) whenever a row is written.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SETTLED = 200  # steps after which nothing may grow
ROWS_EVERY = 10  # steps
GROWTH = 1.05  # of the memory, at most: allocators keep what they may need again


class Sample(NamedTuple):
    """A run's process at one step."""

    step: int
    resident_mib: float
    files: int
    compilations: int


def soak(steps: int, workdir: Path) -> list[Sample]:
    """Samples of a run to its end; raises if it fails."""
    errors = workdir.with_name("errors.txt")
    with open(errors, "w") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "byol_bnfree.train"),
                *("--config=configs/smoke.py", f"--workdir={workdir}"),
                *(f"--steps={steps}", f"--run.log-every={ROWS_EVERY}"),
                *("--run.checkpoint-steps=100", "--evaluation.skip"),
            ],
            cwd=ROOT,
            env=os.environ | {"JAX_LOG_COMPILES": "1"},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            samples = list(watch(process, workdir / "metrics.jsonl", errors))
        finally:
            process.kill()
            process.wait()
    if not (workdir / "summary.json").exists():
        raise RuntimeError(errors.read_text()[-2000:])
    return samples


def watch(process: subprocess.Popen, rows: Path, errors: Path) -> Iterator[Sample]:
    """A sample for every new row while the process lives."""
    last = 0
    while process.poll() is None:
        time.sleep(0.1)
        lines = rows.read_bytes().splitlines(keepends=True) if rows.exists() else []
        if not lines or not lines[-1].endswith(b"\n"):
            continue
        step = json.loads(lines[-1])["step"]
        if step > last and (sample := read_process(process.pid, step, errors)):
            last = step
            yield sample


def read_process(pid: int, step: int, errors: Path) -> Sample | None:
    """None if the process has just ended."""
    folder = Path("/proc", str(pid))
    try:
        pages = int((folder / "statm").read_text().split()[1])
        files = len(os.listdir(folder / "fd"))
    except (FileNotFoundError, IndexError, ProcessLookupError):
        return None
    compiled = errors.read_text().count("Finished XLA compilation")
    return Sample(step, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files, compiled)


def growth(samples: list[Sample], settled: int = SETTLED) -> tuple[Sample, Sample]:
    """The first sample when settled, and the largest of every figure afterwards."""
    later = [sample for sample in samples if sample.step >= settled]
    return later[0], Sample(*(max(values) for values in zip(*later, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", type=int)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        samples = soak(steps, Path(folder, "run"))
    for sample in samples:
        if sample.step in (1, SETTLED) or sample.step % 250 == 0:
            print(sample)
    settled, most = growth(samples)
    print("settled", settled, "most afterwards", most, "last", samples[-1], sep="\n")
    same = (settled.files, settled.compilations) == (most.files, most.compilations)
    sys.exit(not same or most.resident_mib > GROWTH * settled.resident_mib)


if __name__ == "__main__":
    main()
