"""Settings of a command line's own process, and of the processes that it starts.

Functions such as `train` change nothing in the process of their caller.
"""

import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial

IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Signals at which a run saves; its workers ignore them."""
GRACE = 30.0
"""Seconds that a worker goes on after SIGTERM."""


def quiet_libraries() -> None:
    """Silence other packages' messages about faults that we report ourselves.

    Orbax logs a failed background save and raises it again in its threads. PIL and
    tifffile warn of unimportant metadata, of files that we name, or of files that the
    other one reads. Names from the disk that cannot be encoded are printed with
    escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    logging.getLogger("absl").addFilter(_is_not_raised_later)
    for package in ("tifffile", "PIL"):  # their errors are raised too
        logging.getLogger(package).setLevel(logging.CRITICAL)
    sys.excepthook = partial(_say_what_is_news, sys.excepthook)


def _is_not_raised_later(record: logging.LogRecord) -> bool:
    return "_SignalingThread.run() raised" not in record.getMessage()


def _say_what_is_news(say, kind, error, trace) -> None:
    """Report an error, unless it belongs to the other arrays of a failed save."""
    if str(error) != "Event loop is closed":
        say(kind, error, trace)


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of so many processes, which end when this one does."""
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),  # JAX's threads rule out fork
        initializer=_serve_one_process,
    )


def _end_later(_number: int, _frame: object) -> None:
    """End this worker after a while in which the main process may save."""
    timer = threading.Timer(GRACE, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _serve_one_process() -> None:
    """Prepare a worker: it ends when the main process ends, and not before.

    A signal to the whole group of processes, as schedulers and terminals send it, would
    otherwise end the workers that a run needs for its last steps. SIGTERM ends a worker
    later, because a pool sends it to get rid of its workers.

    A worker holds both ends of the pipe it reads tasks from. If the main process is
    killed, the pipe stays open and would not end the worker.
    """
    for number in (signal.SIGINT, *IGNORED):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)
    quiet_libraries()
    main = multiprocessing.parent_process()

    def end_with_main() -> None:
        main.join()
        os._exit(1)

    threading.Thread(target=end_with_main, daemon=True).start()
