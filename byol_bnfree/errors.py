"""Errors that speak to the user, and what a failed write says."""

import errno
import os
import sys

_FULL = (errno.ENOSPC, errno.EDQUOT)


def flag(setting: str) -> str:
    """A setting in the words of the command line: `a.b_c` is --a.b-c."""
    return f"--{setting.replace('_', '-')}"


class InputError(ValueError):
    """The user's input is at fault; the message is one sentence saying what to do.

    Command lines print it and exit with status 2, without a traceback.
    """


class RunStopped(RuntimeError):
    """A run ended before its last step; what could be saved is saved.

    Command lines print the message and exit with `status`; with `at_once` they do not
    wait for background threads, which after a failed save may take minutes to end.
    """

    def __init__(self, message: str, status: int = 1, at_once: bool = False):
        super().__init__(message)
        self.status = status
        self.at_once = at_once


class Interrupted(RunStopped):
    """Somebody asked the run to stop, and it is saved: no error."""


def why_not_written(error: Exception) -> str:
    """The cause, without a full stop, and what to do about it."""
    full = getattr(error, "errno", None) in _FULL or "No space left" in str(error)
    if full:  # tensorstore says so in a ValueError of several hundred letters
        return "no space left on the disk; free some and run the same command again"
    return getattr(error, "strerror", None) or str(error)


class OutputClosed(BrokenPipeError):
    """Nobody reads standard output any more."""


def output_closed() -> OutputClosed:
    """The error of a standard output that nobody reads any more, as after `| head`.

    What is printed from here on goes nowhere, so that this error comes only once.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return OutputClosed("standard output was closed by its reader.")
