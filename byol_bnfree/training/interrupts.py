"""Signals that make a run save and stop. A second Ctrl-C ends it at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

from byol_bnfree.machine.signals import listening, name, terminals, write_nowhere

ASKING = (signal.SIGINT, signal.SIGTERM)
WARNING = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""A closed terminal, and the warnings that SLURM, LSF, SGE and time limits send."""

Asked = Callable[[int], int | None]


@contextlib.contextmanager
def interrupts(say: Callable[[str], None]) -> Iterator[Asked]:
    """Yield `asked(step)`, which returns the signal that asks to stop, or None.

    On a signal `say` is called at once, in another thread. With several processes, all
    see the signal at the same step: JAX's preemption service spreads SIGTERM, and other
    signals are sent on as SIGTERM. All processes must then call `asked` at every step.

    A signal of `WARNING` that the caller handles or ignores (as under nohup) stays with
    the caller. Outside the main thread all signals stay with the caller.
    """
    received: list[int] = []
    several = jax.process_count() > 1
    shown = terminals()

    def heard(number: int) -> None:
        """Note the first signal. JAX tells the other processes of a SIGTERM."""
        if number == signal.SIGHUP:
            write_nowhere(shown)
        if not received:
            received.append(number)
            with contextlib.suppress(OSError):
                say(_announcement(number))
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    def asked(step: int) -> int | None:
        if several:
            stop = multihost_utils.reached_preemption_sync_point(step)
            return (received or [signal.SIGTERM])[0] if stop else None
        return received[0] if received else None

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    # JAX's preemption service has its own handler of SIGTERM, which must stay.
    numbers = ASKING[:1] if several else ASKING
    # A script that starts programs in the background has them ignore Ctrl-C.
    numbers = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN]
    free = [n for n in WARNING if signal.getsignal(n) == signal.SIG_DFL]
    with listening([*numbers, *free], heard):
        yield asked


def _announcement(number: int) -> str:
    said = f"{name(number)}: the run saves after this step, and stops."
    if number == signal.SIGINT:
        said += " Ctrl-C again stops it without saving."
    return said
