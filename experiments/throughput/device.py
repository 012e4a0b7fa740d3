"""An accelerator: steps on ready views, whole runs, and PyTorch beside them.

    python -m experiments.throughput --device gpu --peer "python3 PEER.py"

Every measurement is a process of its own. Its line of device.jsonl is written at once,
so a run that is cut off loses nothing. What the ratios need comes first: bn's step, the
peer, gn_ws's step, all with BYOL's own optimizer, LARS; then whole runs; gn_ws's step
with Muon is last. PEER.py takes NETWORK,SIDE,BATCH,SMALL_STEM,
COMPILE (the last two are 0 or 1) and prints a line of JSON with images_per_s. If it
knows them, the line also has peak_gib, the device's memory in units of 2**30 bytes, and
compile_seconds, that of its first step. `--tiny` tries everything at a small size.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from byol_bnfree.errors import InputError
from byol_bnfree.files import append_row, last_json, read_rows
from experiments.throughput.ratios import costs, ratios, slowest

HERE = Path(__file__).parent
NORMS = ("bn", "gn_ws")
LOG_LINES = 20  # of a failure
LEAST = 30  # seconds; a measurement begun with fewer left would count as failed


class DeviceWorkload(NamedTuple):
    """A network and a batch."""

    network: str
    image_size: int
    batch_size: int
    small_stem: bool

    def flags(self, norm: str, steps: int) -> list[str]:
        """Of `byol_bnfree.train`, for a run on generated pictures."""
        return [
            f"--norm={norm}",
            f"--model.name={self.network}",
            f"--model.stem={'small' if self.small_stem else 'imagenet'}",
            f"--data.image-size={self.image_size}",
            f"--batch-size={self.batch_size}",
            f"--steps={steps}",
            "--optim.warmup-epochs=0",
            "--base-lr=0.01",  # without warm-up, bn diverges at DeepMind's rate
            f"--data.shapes-train={4 * self.batch_size}",
            "--data.shapes-test=64",
            "--model.projector.hidden=4096",
            "--model.projector.out=256",
            "--model.predictor.hidden=4096",
            "--model.predictor.out=256",
            "--run.log-every=50",
            "--evaluation.skip",
        ]

    def peer_spec(self, compiled: bool) -> str:
        """As the peer takes it."""
        small = int(self.small_stem)
        sizes = f"{self.image_size},{self.batch_size}"
        return f"{self.network},{sizes},{small},{int(compiled)}"


WORKLOADS = {
    "resnet18_32": DeviceWorkload("resnet18", 32, 512, True),
    "resnet50_224": DeviceWorkload("resnet50", 224, 256, False),
}
TINY = {"tiny": DeviceWorkload("resnet8", 16, 8, True)}


class Plan(NamedTuple):
    """What is measured, and for how long."""

    platform: str
    peer: str | None
    tiny: bool
    seconds: float
    """Of each timing."""
    budget: float
    """Seconds for all; what does not fit any more is left out."""
    cap: float
    """Most seconds of one measurement."""
    workloads: tuple[str, ...] = ()
    """Keys of WORKLOADS; () means all."""
    out: Path = HERE
    """Folder of device.jsonl."""
    finished: Path | None = None
    """A device.jsonl; what it has of this machine and commit is not measured again.
    Without a commit everything is."""


class Arm(NamedTuple):
    """A measurement: a command that prints JSON in its last line."""

    workload: str
    name: str
    command: list[str]


def measure_device(plan: Plan) -> None:
    """Measure, write every result at once, print costs, operations and ratios.

    Raises:
      InputError: if JAX does not run on the platform, a workload is unknown, or there
        is no file `finished`.
      SystemExit: with status 1 if nothing could be measured.
    """
    from byol_bnfree.training.environment import commit  # JAX: --help needs none

    workloads = chosen(plan.workloads, plan.tiny)
    if plan.finished is not None and not plan.finished.is_file():
        raise InputError(
            f"--finished is {plan.finished}, which is not a file; give the "
            f"device.jsonl of an earlier call, or omit it."
        )
    _show_one_gpu()
    here = {"tiny": plan.tiny, "device": device_kind(plan.platform), "commit": commit()}
    began, found = time.monotonic(), _finished(plan, workloads, here)
    known = {(row["workload"], row["arm"]) for row in found}
    file = plan.out / "device.jsonl"
    if plan.finished is not None and not _same_file(plan.finished, file):
        for row in found:
            append_row(file, row)
    for arm in arms(plan, workloads):
        if (arm.workload, arm.name) in known:
            print(f"{arm.workload} {arm.name}: finished before", flush=True)
            continue
        left = plan.budget - (time.monotonic() - began)
        if left < LEAST:
            print(f"{arm.workload} {arm.name}: no time is left", flush=True)
            continue
        row = {"workload": arm.workload, "arm": arm.name}
        row |= result(arm.command, min(left, plan.cap)) | here
        found.append(row)
        append_row(file, row)
        print(_line(row), flush=True)
    console = Console()
    console.width = max(console.width, 100)
    for table in (costs(found), slowest(found), ratios(found, workloads)):
        console.print(table)
    if all("failed" in row for row in found):
        sys.exit("nothing could be measured; read the messages above.")


def _show_one_gpu() -> None:
    """Let this process and its children see one GPU: the figures are of one device."""
    first, _, _ = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = first


def _same_file(a: Path, b: Path) -> bool:
    return b.exists() and a.resolve() == b.resolve()


def _finished(
    plan: Plan, workloads: dict[str, DeviceWorkload], here: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the rows of an earlier call that succeeded, of this machine and commit."""
    if plan.finished is None or here["commit"] is None:
        return []
    rows = [r for r in read_rows(plan.finished) if "failed" not in r]
    rows = [r for r in rows if here.items() <= r.items()]
    newest = {(row["workload"], row["arm"]): row for row in rows}
    return [row for row in newest.values() if row["workload"] in workloads]


def chosen(names: Sequence[str], tiny: bool) -> dict[str, DeviceWorkload]:
    """Return the workloads with these names; () means all.

    Raises:
      InputError: if one is unknown.
    """
    known = TINY if tiny else WORKLOADS
    for name in names:
        if name not in known:
            raise InputError(
                f"--workload is {name!r}; on a device choose of {', '.join(known)}."
            )
    return {name: known[name] for name in names or known}


def device_kind(wanted: str) -> str:
    """Return the name of the device, such as NVIDIA H100.

    A process of its own is asked, so that this one leaves the device's memory alone.

    Raises:
      InputError: if JAX runs on another platform.
    """
    code = "import jax; print(jax.default_backend(), jax.devices()[0].device_kind)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    found, _, kind = (lines[-1] if lines else "nothing").partition(" ")
    if done.returncode or found != wanted:
        found = lines[-1] if done.returncode and lines else found
        raise InputError(
            f"--device is {wanted}, but JAX says {found}; install the extra for this "
            f"device (cuda or cuda12 for GPUs), or give --device=cpu."
        )
    return kind


def arms(plan: Plan, workloads: dict[str, DeviceWorkload]) -> Iterator[Arm]:
    """What is measured, in its order: steps and peers of all workloads, then runs."""
    module = [sys.executable, "-m", "experiments.throughput.device_step"]
    options = [f"--platform={plan.platform}", f"--seconds={plan.seconds}"]
    options += ["--tiny"] * plan.tiny
    for name, workload in workloads.items():
        bn, gn_ws = (
            Arm(name, norm, [*module, f"--workload={name}", f"--norm={norm}", *options])
            for norm in NORMS
        )
        yield bn
        if plan.peer is not None:
            for compiled in (False, True):
                arm = f"torch {'compiled' if compiled else 'eager'}"
                spec = workload.peer_spec(compiled)
                yield Arm(name, arm, [*shlex.split(plan.peer), spec])
        yield gn_ws
    for name in workloads:
        for norm in NORMS:
            flags = [f"--workload={name}", f"--norm={norm}", "--whole-run"]
            yield Arm(name, f"{norm} run", [*module, *flags, *options])
    for name in workloads:
        flags = [f"--workload={name}", "--norm=gn_ws", "--optimizer=muon"]
        yield Arm(name, "gn_ws muon", [*module, *flags, *options])


def result(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """The JSON of the last line, or what went wrong; a failure ends nothing else."""
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=seconds,
            )
            why = f"status {done.returncode}" if done.returncode else None
        except subprocess.TimeoutExpired:
            done, why = None, f"took longer than {seconds:.0f} s"
        except OSError as error:
            return {"failed": str(error)}
        errors.seek(0)
        log = errors.read().splitlines()[-LOG_LINES:]
    if why is not None:
        return {"failed": why, "log": log}
    try:
        answer = last_json(done.stdout)
        if isinstance(answer["images_per_s"], int | float):
            return answer
    except (ValueError, IndexError, KeyError, TypeError):
        pass
    why = "its last line is not JSON with a number of images_per_s"
    return {"failed": why, "log": [*log, *done.stdout.splitlines()[-LOG_LINES:]]}


def _line(row: dict[str, Any]) -> str:
    title = f"{row['workload']} {row['arm']}"
    if "failed" in row:
        lines = [f"{title}: FAILED, {row['failed']}", *row.get("log", ())]
        return "\n    ".join(lines)
    return f"{title}: {row['images_per_s']:,.1f} images/s"
