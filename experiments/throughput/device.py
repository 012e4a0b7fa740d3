"""An accelerator: steps on ready views, whole runs, and PyTorch beside them.

    python -m experiments.throughput --device gpu --peer "python3 PEER.py"

Every measurement is a process of its own. Its line of device.jsonl is written at once,
so a run that is cut off loses nothing. PEER.py takes NETWORK,SIDE,BATCH,SMALL_STEM,
COMPILE (the last two are 0 or 1) and prints a line of JSON with images_per_s. `--tiny`
tries everything at a small size.
"""

import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
RESULTS = HERE / "device.jsonl"
NORMS = ("bn", "gn_ws")


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
            # Both norms with one optimizer: gn_ws would have Muon, and bn LARS.
            "--optim.name=lars",
            "--optim.warmup-epochs=0",
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


def measure_device(plan: Plan) -> None:
    """Measure, write every result at once, print the ratios."""
    began, found = time.monotonic(), []
    workloads = TINY if plan.tiny else WORKLOADS
    for name, workload in workloads.items():
        for arm, command in _commands(plan, name, workload):
            left = plan.budget - (time.monotonic() - began)
            if left <= 0:
                print(f"{name} {arm}: no time is left", flush=True)
                continue
            row = {"workload": name, "arm": arm} | _result(command, left)
            found.append(row)
            with RESULTS.open("a") as file:
                file.write(json.dumps(row | {"tiny": plan.tiny}) + "\n")
            print(_line(row), flush=True)
    console = Console()
    console.width = max(console.width, 100)
    console.print(ratios(found, workloads))


def _commands(plan: Plan, name: str, workload: DeviceWorkload):
    """Names and commands, ours and the peer's in turn."""
    module = [sys.executable, "-m", "experiments.throughput.device_step"]
    options = [f"--platform={plan.platform}", f"--seconds={plan.seconds}"]
    tiny = ["--tiny"] if plan.tiny else []
    for norm in NORMS:
        yield norm, [*module, f"--workload={name}", f"--norm={norm}", *options, *tiny]
        run = [*module, f"--workload={name}", f"--norm={norm}", "--whole-run"]
        yield f"{norm} run", [*run, *options, *tiny]
    if plan.peer is not None:
        for compiled in (False, True):
            arm = f"torch {'compiled' if compiled else 'eager'}"
            yield arm, [*shlex.split(plan.peer), workload.peer_spec(compiled)]


def _result(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """The JSON of the last line, or what went wrong; a failure ends nothing else."""
    with tempfile.TemporaryFile("w+") as errors:
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=seconds,
            )
        except (subprocess.TimeoutExpired, OSError) as error:
            return {"failed": str(error)}
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if line]
        last = lines[-1] if lines else "nothing"
    if done.returncode:
        return {"failed": f"status {done.returncode}: {last}"}
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {"failed": "its last line is not JSON"}


def _line(row: dict[str, Any]) -> str:
    title = f"{row['workload']} {row['arm']}"
    if "failed" in row:
        return f"{title}: FAILED, {row['failed']}"
    return f"{title}: {row['images_per_s']:,.1f} images/s"


def ratios(found: Sequence[dict[str, Any]], workloads: dict[str, Any]) -> Table:
    """A line for every workload and figure; "?" where a part is missing."""
    table = Table(title="ratios on one device, in one run")
    for head in ("workload", "figure", "measured"):
        table.add_column(head)
    rate = {
        (row["workload"], row["arm"]): row["images_per_s"]
        for row in found
        if "failed" not in row
    }
    rows = {(row["workload"], row["arm"]): row for row in found}
    for name in workloads:
        of = {arm: rate.get((name, arm)) for arm in ("bn", "gn_ws", "bn run")}
        step = rows.get((name, "bn"), {})
        torch = [
            rate[name, arm]
            for arm in ("torch eager", "torch compiled")
            if (name, arm) in rate
        ]
        figures = (
            ("bn step, images/s", of["bn"], 1),
            ("over the faster PyTorch step", of["bn"], max(torch, default=None)),
            ("gn_ws over bn, time", of["bn"], of["gn_ws"]),
            ("whole run over its bare step", of["bn run"], of["bn"]),
            ("views, part of the step", step.get("views_part"), 1),
            ("of the bfloat16 matrix rate", step.get("part_of_limit"), 1),
        )
        for figure, above, below in figures:
            known = above is not None and below is not None
            table.add_row(name, figure, f"{above / below:,.3f}" if known else "?")
    return table
