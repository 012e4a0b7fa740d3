"""Where runs are done: one by one, or one on each core or device."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from byol_bnfree.errors import InputError

Each = Literal["machine", "core", "device"]


class Slot(NamedTuple):
    """The part of a machine that one run gets."""

    name: str
    cores: frozenset[int] | None = None
    """The cores; None means all cores of this process."""
    environment: dict[str, str] = {}

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Bind this thread and its child processes to the cores (Linux)."""
        if self.cores is None:
            yield
            return
        before = os.sched_getaffinity(0)  # of this thread only
        os.sched_setaffinity(0, self.cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


MACHINE = Slot("the machine")


def slots(each: Each) -> list[Slot]:
    """Return one slot, or one for each core or NVIDIA device of this process.

    Raises:
      InputError: if the machine has none, or does not list them.
    """
    if each == "machine":
        return [MACHINE]
    if each == "core":
        if not hasattr(os, "sched_getaffinity"):
            raise InputError("--each core needs Linux, which can bind a run to a core.")
        cores = sorted(os.sched_getaffinity(0))
        return [Slot(f"core {core}", frozenset({core})) for core in cores]
    names = _devices()
    if not names:
        raise InputError("--each device found no NVIDIA device; remove it.")
    return [
        Slot(f"device {name}", None, {"CUDA_VISIBLE_DEVICES": name}) for name in names
    ]


def _devices() -> list[str]:
    """Return device names as CUDA uses them, from CUDA_VISIBLE_DEVICES if set."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name]
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except FileNotFoundError:
        return []
    # With MIG, the parts of a GPU have indented lines of their own.
    lines = [x for x in found.stdout.splitlines() if x.startswith("GPU ")]
    return [str(number) for number in range(len(lines))] if not found.returncode else []
