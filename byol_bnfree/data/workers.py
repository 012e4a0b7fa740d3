"""The number of processes or threads that decode pictures."""

import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from byol_bnfree.config import MOST_WORKERS
from byol_bnfree.own_process import quiet_libraries

FEW_CORES = 4
"""With fewer, threads are as fast: Pillow leaves the interpreter while it decodes."""
COMMANDS = ("byol_bnfree", "experiments")


def usable_cores() -> int:
    """Cores that this process may use, as a scheduler or `taskset` allows."""
    usable = getattr(os, "sched_getaffinity", None)  # Linux
    return len(usable(0)) if usable else os.cpu_count() or 1


def worker_processes(wanted: int | None) -> int:
    """The number of processes that decode; 0: threads do. None: as the cores allow.

    That is one for every core but one, which is left for the run itself. Processes
    import the program's main file again, so a program of the user's own has threads
    unless it asks for processes.
    """
    if wanted is not None:
        return wanted
    cores = usable_cores()
    if cores < FEW_CORES or not _runs_a_command_of_ours():
        return 0
    return min(cores - 1, MOST_WORKERS)


def reading_pool(wanted: int | None) -> Executor:
    """Processes, or threads of this one; see `worker_processes`."""
    workers = worker_processes(wanted)
    if not workers:
        return ThreadPoolExecutor(usable_cores())
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),  # jax's threads bar fork
        initializer=_serve_one_process,
    )


def _runs_a_command_of_ours() -> bool:
    """`python -m byol_bnfree...`, or one of the installed commands."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name.partition(".")[0] in COMMANDS
    return Path(getattr(main, "__file__", None) or "").name.startswith("byol-")


def _serve_one_process() -> None:
    """Runs in a worker: it leaves Ctrl-C to the main process and ends when that ends.

    A worker holds both ends of the pipe that it reads its tasks from, so the death of
    a killed main process would not end it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    quiet_libraries()
    main = multiprocessing.parent_process()

    def end_with_main() -> None:
        main.join()
        os._exit(1)

    threading.Thread(target=end_with_main, daemon=True).start()
