"""Receives signals when they arrive, even while the main thread is busy.

Python runs a handler only between two bytecodes of the main thread. While XLA compiles,
the handler would wait. So the signal's number is written to a pipe at once, and a
thread reads it.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

Heard = Callable[[int], None]


class _Handler:
    """A Python handler for the main thread. Python needs one to write to the pipe."""

    def __init__(self, heard: Heard, repeated: Heard):
        self.heard, self._repeated, self._before = heard, repeated, False

    def __call__(self, number: int, _frame: object) -> None:
        if number != signal.SIGINT:
            return
        if self._before:
            self._repeated(number)
        self._before = True


_listening: list[dict[int, Any]] = []
"""The handlers that each `listening` has replaced, the outermost first."""
_pipes: set[int] = set()
"""The descriptors to which Python writes signals for a `listening`."""


def _stop_listening() -> None:
    """Give a forked child the handlers of before: it shares the pipe of its parent."""
    if _listening:
        signal.set_wakeup_fd(-1)
    for before in reversed(_listening):
        for number, previous in before.items():
            signal.signal(number, previous)
    _listening.clear()
    _pipes.clear()


os.register_at_fork(after_in_child=_stop_listening)


@contextlib.contextmanager
def listening(numbers: Collection[int], heard: Heard) -> Iterator[None]:
    """Call `heard(number)` in a thread, at once, for each signal in `numbers`.

    A second SIGINT also does what SIGINT did before. It acts at once if that was a
    `heard`, otherwise when the main thread is free. The old handlers are restored at
    the end. Use it in the main thread only.
    """
    outer = signal.getsignal(signal.SIGINT)

    def repeated(number: int) -> None:
        if callable(outer) and not isinstance(outer, _Handler):
            outer(number, None)

    handler = _Handler(heard, repeated)
    reader, writer = socket.socketpair()
    # `set_wakeup_fd` asks for this, because a signal must not wait for a reader.
    writer.setblocking(False)
    pipe = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    pass_on = None if pipe == -1 or pipe in _pipes else pipe
    again = outer.heard if isinstance(outer, _Handler) else None
    arguments = (reader, frozenset(numbers), heard, again, pass_on)
    thread = threading.Thread(target=_listen, args=arguments, daemon=True)
    thread.start()
    before = {number: signal.signal(number, handler) for number in numbers}
    _listening.append(before)
    _pipes.add(writer.fileno())
    try:
        yield
    finally:
        _listening.remove(before)
        _pipes.discard(writer.fileno())
        for number, previous in before.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(pipe)
        writer.close()
        thread.join()


def _listen(
    reader: socket.socket,
    numbers: frozenset[int],
    heard: Heard,
    again: Heard | None,
    pass_on: int | None,
) -> None:
    interrupted = False
    with reader:
        while data := reader.recv(1):
            number = data[0]
            if pass_on is not None:  # an event loop waits at this pipe
                with contextlib.suppress(OSError):
                    os.write(pass_on, data)
            if number not in numbers:
                continue
            if number == signal.SIGINT and interrupted and again is not None:
                again(number)
            interrupted |= number == signal.SIGINT
            heard(number)


@contextlib.contextmanager
def signals_end_at_once(resuming: str) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end this process at once, with a message.

    The status is 128 + the signal's number. `resuming` names the command that resumes
    the work, as `errors.same_command` does. It is for command lines whose work can be
    interrupted anywhere, such as a run before its first step and after its last one. A
    signal that is ignored stays ignored.
    """

    def end(number: int) -> None:
        with contextlib.suppress(OSError):
            cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides it
            said = f"{cursor}\nstopped by {name(number)}; {resuming} resumes.\n"
            os.write(2, said.encode())
        os._exit(128 + number)

    both = (signal.SIGINT, signal.SIGTERM)
    numbers = [n for n in both if signal.getsignal(n) != signal.SIG_IGN]
    if not numbers or threading.current_thread() is not threading.main_thread():
        yield
        return
    with listening(numbers, end):
        yield


def name(number: int) -> str:
    """Return the usual name of a signal."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


@contextlib.contextmanager
def signals_end_as_errors_do() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit, with status 128 + their number.

    Then what an error removes is removed, such as a part of a file. A second signal
    does not disturb that. A signal that is ignored, as by nohup, stays ignored. Use it
    in the main thread only.
    """
    both = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    before = {number: how for number, how in both.items() if how != signal.SIG_IGN}

    def end(number: int, _frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def terminals() -> list[int]:
    """Return the descriptors of stdout and stderr that are terminals."""
    return [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]


def write_nowhere(descriptors: list[int]) -> None:
    """Discard later output without an error, because nobody reads it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
