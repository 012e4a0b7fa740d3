"""Runs of the real command line, to be harmed; and what they left on disk."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from byol_bnfree.training.manifest import verify_manifest

ROOT = Path(__file__).parents[2]
TINY = (
    "--batch-size=8 --model.name=resnet8 --model.width=0.25 --model.stem=small "
    "--model.stem-stride=2 --model.projector.hidden=8 --model.projector.out=8 "
    "--model.predictor.hidden=8 --model.predictor.out=8 --base-lr=0.4 "
    "--optim.warmup-epochs=0.1 --data.image-size=16 --data.shapes-train=32 "
    "--data.shapes-test=16 --run.log-every=1 --evaluation.skip"
).split()


def start(workdir: Path, *arguments: str, wrapper=(), **options) -> subprocess.Popen:
    """A training process; what it prints goes to `<workdir>.txt`, again from empty."""
    command = [*wrapper, sys.executable, "-m", "byol_bnfree.train", *TINY, *arguments]
    with open(printed_by(workdir), "w") as output:
        return subprocess.Popen(
            [*command, f"--workdir={workdir}"],
            cwd=ROOT,
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
            **{"stdout": output, "stderr": subprocess.STDOUT, **options},
        )


def start_together(
    workdir: Path, *arguments: str, count: int = 2, last: Sequence[str] = ()
) -> list:
    """The processes of one run; number i prints to `<workdir>.txt.i`.

    `last` are more arguments of the last one alone.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        together = [
            f"--coordinator=127.0.0.1:{free.getsockname()[1]}",
            f"--num-processes={count}",
        ]
    processes = []
    for index in range(count):
        with open(f"{printed_by(workdir)}.{index}", "w") as output:
            own = [*arguments, *together, f"--process-id={index}"]
            own += last if index == count - 1 else []
            processes.append(start(workdir, *own, stdout=output))
    return processes


def finish(process: subprocess.Popen, seconds: float = 1800) -> int:
    """The exit status; a process that does not end is killed, and that is an error."""
    try:
        return process.wait(seconds)
    finally:
        process.kill()
        process.wait()


def printed_by(workdir: Path) -> Path:
    """Where a process's output goes."""
    return workdir.with_name(f"{workdir.name}.txt")


def wait_until(
    reached: Callable[[], object], process: subprocess.Popen, seconds: float = 1800
) -> bool:
    """Whether `reached` became true before the process ended."""
    give_up = time.monotonic() + seconds
    while not reached():
        if process.poll() is not None:
            return False
        assert time.monotonic() < give_up, "the process does not come this far"
        time.sleep(0.005)
    return True


def resumed_at(output: Path) -> int:
    """The step a process said it resumes from; 0: it did not say so."""
    found = re.search(r"resuming from the checkpoint of step (\d+)", output.read_text())
    return int(found[1]) if found else 0


def committed(workdir: Path) -> list[int]:
    """Steps of the checkpoints that have a manifest, oldest first."""
    folders = workdir.glob("checkpoints/*/manifest.json")
    return sorted(int(folder.parent.name) for folder in folders)


def kept(workdir: Path) -> int:
    """Step of the newest checkpoint that is committed and undamaged; 0: none."""
    for step in reversed(committed(workdir)):
        if not verify_manifest(workdir / "checkpoints" / str(step)):
            return step
    return 0


def rows(workdir: Path) -> list[dict]:
    """Whole rows of metrics.jsonl, without those figures that tell the time."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [
        {name: row[name] for name in row if not name.startswith("perf/")}
        for row in found
    ]


def reached(workdir: Path) -> int:
    """The step of the last row; 0: none."""
    return max((row["step"] for row in rows(workdir)), default=0)


def assert_same_end(workdir: Path, other: Path) -> None:
    """Two runs have the same rows, and the same last state to the last bit."""
    assert rows(workdir) == rows(other)
    assert kept(workdir) == kept(other) > 0
    for a, b in zip(_newest(workdir), _newest(other), strict=True):
        np.testing.assert_array_equal(a, b)


def _newest(workdir: Path) -> list[np.ndarray]:
    """The arrays of the newest state, however many processes wrote it."""
    import jax

    from byol_bnfree.training.mesh import make_mesh, replicated
    from byol_bnfree.training.parts import build_parts
    from byol_bnfree.training.restore import load_newest
    from byol_bnfree.training.saved_run import read_run

    everywhere = replicated(make_mesh())
    abstract = jax.tree.map(
        lambda leaf: leaf.update(sharding=everywhere),
        build_parts(*read_run(workdir)).abstract_state,
    )
    return [np.asarray(x) for x in jax.tree.leaves(load_newest(workdir, abstract)[0])]
