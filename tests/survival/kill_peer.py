"""SIGKILL to one process of two: the other must end, and both must be able to resume.

    python tests/survival/kill_peer.py --kills=6 [--signal=SIGSTOP] [--early]

One run of two processes is started, one of them killed (process 0, the coordinator,
and 1 in turn) at a random moment after its first checkpoint, or `--early`, while both
still compile, and both started again, `--kills` times; in the end it is compared, to
the last bit, with a run of two processes that nobody disturbed. SIGSTOP stands for a
machine that hangs or is cut off. Prints a line for each kill, and exits with 0 if
nothing but steps after a checkpoint was lost.
"""

import argparse
import random
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from commands import (
    assert_same_end,
    committed,
    finish,
    kept,
    printed_by,
    reached,
    resumed_at,
    start_together,
    wait_until,
)

LIMIT = 60  # seconds that the other may take to end
STEPS_PER_KILL = 20


class Kill(NamedTuple):
    """How and when a process is killed."""

    signal: int = signal.SIGKILL
    delay: float = 0.1
    """Seconds after the moment: a new checkpoint, or the start of compilation."""
    early: bool = False


def kill_one(workdir: Path, victim: int, kill: Kill, *arguments: str) -> str:
    """One start and one kill; returns what happened, in a line."""
    before = kept(workdir)
    processes = start_together(workdir, *arguments)
    come = partial(_compiles if kill.early else _saved_after, workdir, before)
    try:
        assert wait_until(come, processes[0]), "ended before it could be killed"
        time.sleep(kill.delay)
        processes[victim].send_signal(kill.signal)
        began = time.monotonic()
        status = finish(processes[1 - victim], LIMIT)
        seconds = time.monotonic() - began
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert resumed_at(_printed(workdir, 0)) == before
    said = _sentence(_printed(workdir, 1 - victim))
    assert status != 0 and said
    lost = max(0, reached(workdir) - kept(workdir))
    return (
        f"process {victim} at step {reached(workdir)}: the other ended with {status} "
        f"after {seconds:.1f} s; {lost} steps lost; it said: {said}"
    )


def _saved_after(workdir: Path, step: int) -> bool:
    return committed(workdir)[-1:] > [step]


def _compiles(workdir: Path, step: int) -> bool:
    return "compiling the first step" in _printed(workdir, 0).read_text()


def _printed(workdir: Path, process: int) -> Path:
    return Path(f"{printed_by(workdir)}.{process}")


def _sentence(output: Path) -> str:
    """Our own last words, or JAX's."""
    lines = output.read_text().splitlines()
    ours = [line for line in lines if line.startswith("error: ")]
    theirs = [line for line in lines if "Terminating process because" in line]
    return (ours + theirs + [""])[0]


def resume(workdir: Path, *arguments: str) -> None:
    """Starts both again and leaves them alone to the end."""
    before = kept(workdir)
    statuses = [finish(process) for process in start_together(workdir, *arguments)]
    assert statuses == [0, 0], _printed(workdir, 0).read_text()
    assert resumed_at(_printed(workdir, 0)) == before


def main(kills: int, draws: random.Random, kill: Kill, folder: Path) -> None:
    """`kills` kills of one run, compared with an undisturbed run of as many steps."""
    cut, whole = folder / "cut", folder / "whole"
    arguments = ["--run.checkpoint-steps=2", f"--steps={kills * STEPS_PER_KILL}"]
    for index in range(kills):
        kill = kill._replace(delay=draws.uniform(0, 0.5))
        print(kill_one(cut, index % 2, kill, *arguments), flush=True)
    resume(cut, *arguments)
    resume(whole, *arguments)
    assert_same_end(cut, whole)
    print(f"{kills} kills; the end is bit for bit that of the undisturbed run")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", default="SIGKILL", choices=["SIGKILL", "SIGSTOP"])
    parser.add_argument("--early", action="store_true")
    given = parser.parse_args()
    asked = Kill(getattr(signal, given.signal), early=given.early)
    with tempfile.TemporaryDirectory(prefix="kill-peer-") as temporary:
        main(given.kills, random.Random(given.seed), asked, Path(temporary))
