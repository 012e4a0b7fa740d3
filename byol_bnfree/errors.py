"""Errors that are shown to the user, and the reasons of failed writes."""

import errno
import os
import shlex
import sys
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OTHER_NAMES = {"encoder": "model", "unlabelled": "data.unlabelled"}
"""Settings whose flag has another name than their field."""


def named(setting: str) -> str:
    """Return the name of a setting on the command line, with its underscores."""
    return _OTHER_NAMES.get(setting, setting)


def flag(setting: str) -> str:
    """Return a setting as its flag: `a.b_c` becomes --a.b-c."""
    return f"--{named(setting).replace('_', '-')}"


class InputError(ValueError):
    """The user's input is wrong. The message is one sentence that says what to do.

    Command lines print it without a traceback and exit with status 2.
    """


class RunStopped(RuntimeError):
    """A run ended before its last step. Everything that could be saved is saved.

    Command lines print the message and exit with `status`. With `at_once` they do not
    wait for background threads, which may take minutes to end after a failed save.
    """

    def __init__(self, message: str, status: int = 1, at_once: bool = False):
        super().__init__(message)
        self.status = status
        self.at_once = at_once


class Interrupted(RunStopped):
    """The user asked the run to stop, and it is saved. This is no error."""


def same_command(given: str | None, folder: Path | None = None, *flags: str) -> str:
    """Name the command that goes on with a run: the same one, with `flags`.

    Args:
      given: the --workdir of the command. Without one, the same command would begin
        another run, so it needs the folder.
      folder: the folder of the run; None if it is not known here.
      flags: other flags that it needs.
    """
    if given is None:
        flags += (
            "the run's --workdir"
            if folder is None
            else shlex.quote(f"--workdir={folder}"),
        )
    return (
        f"the same command with {' and '.join(flags)}" if flags else "the same command"
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def why_not_read(error: Exception) -> str:
    """Return the reason of an error without its number and path."""
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error) or type(error).__name__


def why_not_written(error: Exception) -> str:
    """Return the cause, without a full stop, and the remedy if there is one."""
    full = getattr(error, "errno", None) in _FULL or "No space left" in str(error)
    if full:  # tensorstore reports it in a ValueError with a very long message
        return "no space left on the disk; free some and try again"
    return getattr(error, "strerror", None) or str(error)


class OutputClosed(BrokenPipeError):
    """Nobody reads standard output any more."""


def output_closed() -> OutputClosed:
    """Return the error for a standard output that nobody reads, as after `| head`.

    Later output is discarded, so this error occurs only once.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return OutputClosed("standard output was closed by its reader.")
