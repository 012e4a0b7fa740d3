"""Changes that a command line makes in its process, which is its own.

Functions such as `train` change nothing in the process of their caller.
"""

import io
import logging
import sys
import warnings
from functools import partial


def quiet_libraries() -> None:
    """Without what other packages say of faults that we report ourselves.

    Orbax logs and raises a failed background save once more, in its threads, and PIL
    warns of metadata that a picture can do without, and does not say whose.
    Names from the disk that cannot be encoded are printed with escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name may be no UTF-8
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    logging.getLogger("absl").addFilter(_is_not_raised_later)
    sys.excepthook = partial(_say_what_is_news, sys.excepthook)


def _is_not_raised_later(record: logging.LogRecord) -> bool:
    return "_SignalingThread.run() raised" not in record.getMessage()


def _say_what_is_news(say, kind, error, trace) -> None:
    """But for the other arrays of a failed save: Orbax has stopped waiting for them."""
    if str(error) != "Event loop is closed":
        say(kind, error, trace)
