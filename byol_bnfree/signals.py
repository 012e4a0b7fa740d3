"""Signals are heard when they arrive, and not when the main thread is free.

Python runs a handler between two lines of the main thread, so a program that XLA is
compiling is finished first. The number of a signal is written to a pipe at once, and a
thread reads it.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator

Heard = Callable[[int], None]


class _Handler:
    """Of Python, for the main thread; it is there so that the pipe is written to."""

    def __init__(self, heard: Heard, repeated: Heard):
        self.heard, self._repeated, self._before = heard, repeated, False

    def __call__(self, number: int, _frame: object) -> None:
        if number != signal.SIGINT:
            return
        if self._before:
            self._repeated(number)
        self._before = True


@contextlib.contextmanager
def listening(numbers: Collection[int], heard: Heard) -> Iterator[None]:
    """`heard(number)` is called in a thread for each signal of `numbers`, at once.

    A second SIGINT does what SIGINT did before, too: at once if that was a `heard`,
    else in the main thread when that is free. Handlers are given back at the end. For
    the main thread only.
    """
    outer = signal.getsignal(signal.SIGINT)

    def repeated(number: int) -> None:
        if callable(outer) and not isinstance(outer, _Handler):
            outer(number, None)

    handler = _Handler(heard, repeated)
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    pipe = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    pass_on = pipe if pipe != -1 and not isinstance(outer, _Handler) else None
    again = outer.heard if isinstance(outer, _Handler) else None
    arguments = (reader, frozenset(numbers), heard, again, pass_on)
    thread = threading.Thread(target=_listen, args=arguments, daemon=True)
    thread.start()
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
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
            if pass_on is not None:  # an event loop's, which waits for other signals
                with contextlib.suppress(OSError):
                    os.write(pass_on, data)
            if number not in numbers:
                continue
            if number == signal.SIGINT and interrupted and again is not None:
                again(number)
            interrupted |= number == signal.SIGINT
            heard(number)


@contextlib.contextmanager
def interrupt_ends_at_once() -> Iterator[None]:
    """Ctrl-C ends this process with a sentence and status 130, whatever it does.

    For a command line whose work can be cut off anywhere: a run before its first step
    and after its last.
    """

    def end(number: int) -> None:
        with contextlib.suppress(OSError):
            cursor = b"\x1b[?25h" if os.isatty(2) else b""  # a bar may have hidden it
            os.write(2, cursor + b"\nstopped by Ctrl-C; the same command goes on.\n")
        os._exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with listening([signal.SIGINT], end):
        yield


def terminals() -> list[int]:
    """Descriptors of the standard outputs that are a terminal."""
    return [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]


def write_nowhere(descriptors: list[int]) -> None:
    """Later output is lost without an error, as nobody reads it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
