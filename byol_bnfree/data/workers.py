"""Chooses how many processes or threads decode pictures."""

import contextlib
import os
import sys
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

from byol_bnfree.config import MOST_WORKERS
from byol_bnfree.machine.control_groups import OWN, ROOT, groups_of
from byol_bnfree.machine.launched import place
from byol_bnfree.machine.own_process import process_pool

FEW_CORES = 4
"""Below this, threads are as fast: Pillow releases the interpreter while decoding."""
COMMANDS = ("byol_bnfree", "experiments")


def usable_cores() -> int:
    """Return the cores for this process, at least 1.

    A scheduler or `taskset` limits them, and so does a container's quota of time. The
    processes that a launcher started on this machine share both. They do not share the
    cores if the launcher gave each its own; we assume so if they could be disjoint.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    machine, here = os.cpu_count() or 1, place(os.environ).count
    cores = len(affinity(0)) if affinity else machine
    shares = [cores if cores * here <= machine else cores // here]
    if (quota := cpu_quota()) is not None:
        shares.append(int(quota / here))
    return max(1, min(shares))


def cpu_quota(root: Path = ROOT, own: Path = OWN) -> float | None:
    """Return the cores that the control groups may use at a time; None if unlimited.

    Version 2 of control groups has one file for it, and version 1 two.
    """
    quotas = [_quota_of(group) for group in groups_of("cpu", root, own)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_of(group: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    return None


def worker_processes(wanted: int | None) -> int:
    """Return the number of processes that decode; 0 means threads.

    None chooses one process for every core but one, which stays free for the run
    itself. Processes import the main file of the program again. A user's own program
    therefore gets threads, unless it asks for processes.
    """
    if wanted is not None:
        return wanted
    cores = usable_cores()
    if cores < FEW_CORES or not _runs_a_command_of_ours():
        return 0
    return min(cores - 1, MOST_WORKERS)


def reading_pool(wanted: int | None) -> Executor:
    """Return a pool of processes, or of threads; see `worker_processes`."""
    workers = worker_processes(wanted)
    if not workers:
        return ThreadPoolExecutor(usable_cores())
    return process_pool(workers)


def _runs_a_command_of_ours() -> bool:
    """Return True for `python -m byol_bnfree...` and the installed commands."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name.partition(".")[0] in COMMANDS
    return Path(getattr(main, "__file__", None) or "").name.startswith("byol-")
