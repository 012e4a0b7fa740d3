"""Logs of a run: metrics.jsonl, TensorBoard events, environment.json."""

import contextlib
import importlib.metadata
import json
import os
import platform
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, SupportsFloat

import jax

from byol_bnfree import __version__
from byol_bnfree.errors import InputError, why_not_written
from byol_bnfree.files import strict, write_atomically
from byol_bnfree.memory import machine_bytes
from byol_bnfree.training.boards import TensorBoard

# fmt: off
_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy",
    "einops", "grain", "tensorflow-datasets", "array-record", "pillow",
    "onednn-cpu-gomp",
)
# fmt: on


Row = dict[str, Any]


class CallerFailed(Exception):
    """The caller's row function raised an error, which is this error's cause."""


class MetricsLog:
    """Metrics in `workdir/metrics.jsonl` and `workdir/tensorboard`.

    A row is written whole or not at all. A line that a kill or a full disk cut short is
    dropped. NaN and infinities become null, because strict JSON has no such numbers.
    Only the process with `primary` writes. It calls `on_row` after each row.
    """

    def __init__(
        self,
        workdir: Path,
        primary: bool = True,
        on_row: Callable[[Row], None] | None = None,
    ):
        self._path = workdir / "metrics.jsonl"
        self._tensorboard = TensorBoard(workdir / "tensorboard")
        self._primary, self._on_row = primary, on_row
        if primary:
            self._rewrite(_whole_lines(self._path))

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Append a row and flush it.

        Raises:
          OSError: with a message, for instance if the disk is full or metrics.jsonl was
            deleted. The file still ends with a whole row.
          CallerFailed: if `on_row` raised an error. It is not called again.
        """
        if not self._primary:
            return
        values = {name: float(value) for name, value in metrics.items()}
        row = strict({"step": step, **values})
        line = json.dumps(row, allow_nan=False)
        try:
            self._append(line.encode() + b"\n")
            self._tensorboard.row(step, values)
        except OSError as error:
            raise OSError(
                f"The row of step {step} could not be written in {self._path.parent}: "
                f"{why_not_written(error)}."
            ) from error
        self._tell(row)

    def _tell(self, row: Row) -> None:
        on_row, self._on_row = self._on_row, None
        if on_row is None:
            return
        try:
            on_row(row)
        except Exception as error:
            raise CallerFailed from error
        self._on_row = on_row

    def rows(self) -> list[Row]:
        """Return all rows so far, {"step": int, name: float or None}, in order."""
        return [json.loads(line) for line in _whole_lines(self._path)]

    def truncate_after(self, step: int) -> None:
        """Drop the rows after `step`. A run resumed there writes them again.

        TensorBoard is told to drop them too.
        """
        if not self._primary:
            return
        lines = _whole_lines(self._path)
        self._file.close()
        self._rewrite([line for line in lines if json.loads(line)["step"] <= step])
        self._tensorboard.resume(step)

    def finish(
        self,
        step: int,
        settings: Mapping[str, Any],
        figures: Mapping[str, float],
        pictures: Mapping[str, Path],
    ) -> None:
        """Write pictures, final figures and settings to TensorBoard.

        Missing pictures are left out. Disk errors are raised as `OSError`.
        """
        if self._primary:
            there = {name: path for name, path in pictures.items() if path.exists()}
            self._tensorboard.finish(step, settings, figures, there)

    def close(self) -> None:
        if self._primary:
            self._file.close()
        self._tensorboard.close()

    def _rewrite(self, lines: list[bytes]) -> None:
        write_atomically(self._path, b"".join(lines))
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115

    def _append(self, line: bytes) -> None:
        status = os.fstat(self._file.fileno())
        if not status.st_nlink:
            raise OSError("metrics.jsonl was deleted while the run was writing to it")
        try:
            while line:  # a nearly full disk takes a part, then rejects the rest
                line = line[self._file.write(line) :]
        except OSError:
            # A read-only disk also rejects the truncation. The first error matters.
            with contextlib.suppress(OSError):
                self._file.truncate(status.st_size)
            raise


def _whole_lines(path: Path) -> list[bytes]:
    """Return the lines that are JSON, without a half-written last line.

    Raises:
      InputError: if a line before the last is damaged.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    if lines and not _is_row(lines[-1]):
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not _is_row(line):
            raise InputError(f"{path} is damaged at line {number}; delete that line.")
    return lines


def _is_row(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and "step" in json.loads(line)
    except (ValueError, TypeError):
        return False


def environment() -> dict[str, Any]:
    """Return versions, devices, commit, machine and command line of this process.

    It starts JAX's devices if they are not yet started.
    """
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "packages": _versions(),
        "commit": _commit(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in devices],
        "processes": jax.process_count(),
        "cpu": _cpu_model(),
        "cores": _cores(),
        "memory_gib": round(machine_bytes() / 2**30, 1),
        "argv": sys.argv,
    }


def peak_memory() -> dict[str, float | None]:
    """Return the peak memory of this process in GiB, on the host and its first device.

    "device" is None where the backend does not count it, as on CPUs.
    """
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"host": host, "device": None if device is None else device / 2**30}


def _versions() -> dict[str, str]:
    found = {"byol_bnfree": __version__}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _commit() -> str | None:
    """Return the checkout's commit, "-dirty" if files differ; None outside of one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed, perhaps in another project's checkout
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None


def _cpu_model() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cores() -> int | None:
    """Return the number of cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count()
