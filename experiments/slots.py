"""Where the runs of a queue are done: one by one, or each on a core or a device."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from byol_bnfree.errors import InputError

Each = Literal["machine", "core", "device"]


class Slot(NamedTuple):
    """The part of a machine that one run has for itself."""

    name: str
    cores: frozenset[int] | None = None
    """None: all that this process has."""
    environment: dict[str, str] = {}

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Children that this thread starts inside have these cores (on Linux)."""
        if self.cores is None:
            yield
            return
        before = os.sched_getaffinity(0)  # of the thread alone
        os.sched_setaffinity(0, self.cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


MACHINE = Slot("the machine")


def slots(each: Each) -> list[Slot]:
    """One slot, or one for each core or NVIDIA device that this process may use.

    Raises: InputError where a machine has none of them, or does not tell.
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
        raise InputError("--each device found no NVIDIA device; leave it away.")
    return [
        Slot(f"device {name}", None, {"CUDA_VISIBLE_DEVICES": name}) for name in names
    ]


def _devices() -> list[str]:
    """Names as CUDA takes them; those of CUDA_VISIBLE_DEVICES if it is set."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name]
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except FileNotFoundError:
        return []
    lines = found.stdout.splitlines()
    return [str(number) for number in range(len(lines))] if not found.returncode else []
