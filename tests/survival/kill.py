"""SIGKILL at random moments: what is lost, and is the end that of the undisturbed run?

    python tests/survival/kill.py --kills=30 [--seed=0] [--norm=bn]

One run is started and killed `--kills` times, then left alone to its end, and compared,
to the last bit, with a run that nobody disturbed. A kill comes (a draw decides) at any
time since the process started, or after it has committed a checkpoint: while it trains,
or while a save is seen on the disk. After each kill metrics.jsonl and the TensorBoard
file get the half line that a cut leaves. Prints a line for each kill, and exits with 0
if every start resumed from the newest committed checkpoint and nothing but steps after
it was lost.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from commands import (
    assert_same_end,
    committed,
    finish,
    kept,
    printed_by,
    reached,
    resumed_at,
    start,
    wait_until,
)

STEPS_PER_KILL = 12  # more than are made before a kill, with those made again
Moment = tuple[Callable[[], bool], float]  # what is waited for, and seconds after it


def anytime(workdir: Path, draws: random.Random) -> Moment:
    """Mostly before the first step, which compiles."""
    return (lambda: True), draws.uniform(0, 8)


def training(workdir: Path, draws: random.Random) -> Moment:
    """Soon after this start has committed a checkpoint of its own."""
    before = committed(workdir)[-1:]
    return (lambda: committed(workdir)[-1:] > before), draws.uniform(0, 0.3)


def saving(workdir: Path, draws: random.Random) -> Moment:
    """While another one after that is written, or old ones are deleted."""
    come, _ = training(workdir, draws)
    return (lambda: come() and bool(_saves(workdir))), draws.uniform(0, 0.1)


MOMENTS = (anytime, training, training, saving, saving, saving)


def kill_once(workdir: Path, draws: random.Random, *arguments: str) -> str | None:
    """One start and one kill; what happened, in a line, or None if the run ended."""
    before, moment = kept(workdir), draws.choice(MOMENTS)
    come, delay = moment(workdir, draws)
    process = start(workdir, *arguments)
    began = time.monotonic()
    try:
        if wait_until(come, process):
            time.sleep(delay)
        if process.poll() is not None:
            return None
    finally:
        process.kill()
        process.wait()
    seconds = time.monotonic() - began
    if "devices  " in printed_by(workdir).read_text():  # it came to the first step
        assert resumed_at(printed_by(workdir)) == before
    under_way = ", ".join(sorted(_saves(workdir))) or "nothing"
    lost = max(0, reached(workdir) - kept(workdir))
    line = (
        f"{moment.__name__:<8} {seconds:5.1f} s after the start, at step "
        f"{reached(workdir)}, {under_way} being saved or deleted: {kept(workdir)} is "
        f"kept, {lost} steps lost"
    )
    _cut_logs(workdir)
    return line


def _saves(workdir: Path) -> set[str]:
    """Folders of checkpoints that are not committed: written, or being deleted."""
    folders = workdir.glob("checkpoints/*")
    return {f.name for f in folders if not (f / "manifest.json").exists()}


def _cut_logs(workdir: Path) -> None:
    """Half a line more, as a crash of the machine leaves it."""
    files = [workdir / "metrics.jsonl", *workdir.glob("tensorboard/*")]
    for path in files:
        if path.exists():
            data = path.read_bytes()
            path.write_bytes(data + data[: min(len(data), 30)])


def main(kills: int, seed: int, norm: str, folder: Path) -> None:
    """`kills` kills of one run, compared with an undisturbed run of as many steps."""
    draws = random.Random(seed)
    steps = kills * STEPS_PER_KILL
    arguments = [f"--norm={norm}", "--run.checkpoint-steps=3", f"--steps={steps}"]
    whole, cut = folder / "whole", folder / "cut"
    assert finish(start(whole, *arguments)) == 0, printed_by(whole).read_text()
    for index in range(kills):
        told = kill_once(cut, draws, *arguments)
        assert told, f"the run ended before kill {index + 1}: raise STEPS_PER_KILL"
        print(f"{index + 1:>3} {told}", flush=True)
    newest = kept(cut)
    assert finish(start(cut, *arguments)) == 0, printed_by(cut).read_text()
    assert resumed_at(printed_by(cut)) == newest
    assert_same_end(cut, whole)
    print(f"{kills} kills; the end is bit for bit that of the undisturbed run")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--norm", default="gn_ws")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-") as temporary:
        main(given.kills, given.seed, given.norm, Path(temporary))
