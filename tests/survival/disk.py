"""Disks that fill, turn read-only or lose files under a run; a real one each time.

    python tests/survival/disk.py [--harm=full] [--tries=5]

Harms: `full` (a tmpfs of 3 MiB, which checkpoints fill), `row` (the disk takes no more
of metrics.jsonl, but still a checkpoint), `read_only` (the whole work folder),
`deleted` (the folder of checkpoints). Prints what the run said, with which status it
ended and what is kept, and exits with 0 if each run ended as it should.
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from commands import committed, finish, kept, printed_by, reached, start, wait_until

SAVES = ("--run.checkpoint-steps=5", "--steps=4000")
# A mount that only this process sees, and that ordinary users may make too.
OWN_DISK = (
    *("unshare", "--map-root-user", "--mount", "sh", "-c"),
    'mkdir -p "$0"; mount -t tmpfs -o size=3m none "$0"; "$@"; status=$?;'
    'umask 022; cp -r "$0" "$0.kept"; exit $status',
)


def full(workdir: Path, delay: float) -> tuple[int, Path]:
    """Every checkpoint is kept, so that they fill the disk."""
    arguments = (*SAVES, "--run.keep=1000")
    process = start(workdir, *arguments, wrapper=(*OWN_DISK, str(workdir)))
    return finish(process), workdir.with_name(f"{workdir.name}.kept")


def row(workdir: Path, delay: float) -> tuple[int, Path]:
    """Files may not grow beyond what metrics.jsonl has, and checkpoints are smaller."""
    process = start(workdir, *SAVES)
    try:
        metrics = workdir / "metrics.jsonl"
        _wait(lambda: metrics.exists() and _size(metrics) > _largest(workdir), process)
        time.sleep(delay)
        limit = (_size(metrics), _size(metrics))
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)
    finally:
        status = finish(process, 120)
    return status, workdir


def read_only(workdir: Path, delay: float) -> tuple[int, Path]:
    """Nothing in the folder can be written any more."""
    process = start(workdir, *SAVES)
    try:
        _wait(lambda: len(committed(workdir)) > 1, process)
        time.sleep(delay)
        with made_read_only(workdir):
            status = finish(process, 120)
    finally:
        process.kill()
    return status, workdir


def deleted(workdir: Path, delay: float) -> tuple[int, Path]:
    """The run makes the folder again, and is then asked to stop."""
    process = start(workdir, *SAVES)
    try:
        _wait(lambda: len(committed(workdir)) > 1, process)
        time.sleep(delay)
        newest = committed(workdir)[-1]
        shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
        _wait(lambda: committed(workdir)[-1:] > [newest], process)
        process.send_signal(signal.SIGTERM)
    finally:
        status = finish(process, 120)
    return status, workdir


HARMS = {"full": full, "row": row, "read_only": read_only, "deleted": deleted}


@contextlib.contextmanager
def made_read_only(folder: Path) -> Iterator[None]:
    """For root too, whom permissions do not bind."""
    root = os.geteuid() == 0
    harm, undo = ("chattr +i", "chattr -i") if root else ("chmod a-w", "chmod u+w")
    run = partial(subprocess.run, check=True, capture_output=True)
    try:
        run([*harm.split(), "-R", str(folder)])
        yield
    finally:
        run([*undo.split(), "-R", str(folder)])


def _size(path: Path) -> int:
    return path.stat().st_size


def _largest(workdir: Path) -> int:
    """Bytes of the largest file of a checkpoint, once there is one, and a margin."""
    try:
        files = [f for f in workdir.glob("checkpoints/[0-9]*/*/**/*") if f.is_file()]
        return 2 * max(map(_size, files)) if committed(workdir) else 1 << 40
    except FileNotFoundError:  # one that is deleted just now
        return 1 << 40


def _wait(reached, process) -> None:
    assert wait_until(reached, process), "the run ended before it was harmed"


def try_once(name: str, workdir: Path, delay: float) -> str:
    """What happened, in a line."""
    status, left = HARMS[name](workdir, delay)
    printed = printed_by(workdir).read_text()
    assert status not in (0, -signal.SIGKILL) and "Traceback" not in printed, printed
    assert kept(left), printed
    said = [line for line in printed.splitlines() if "error: " in line]
    said += [line for line in printed.splitlines() if "deleted while" in line]
    return (
        f"{name}: ended with {status} at step {reached(left)}, {kept(left)} is kept; "
        f"it said: {' '.join(said)}"
    )


def main(names: list[str], tries: int, seed: int) -> None:
    draws = random.Random(seed)
    for name in names:
        for _ in range(tries):
            with tempfile.TemporaryDirectory(prefix="disk-") as folder:
                workdir = Path(folder) / "run"
                print(try_once(name, workdir, draws.uniform(0, 0.3)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--harm", choices=HARMS)
    parser.add_argument("--tries", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main([given.harm] if given.harm else list(HARMS), given.tries, given.seed)
