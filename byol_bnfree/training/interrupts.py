"""SIGTERM and SIGINT ask a run to save and stop; a second SIGINT ends it at once."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[int], int | None]]:
    """Yields `asked(step)`: the signal that asks to stop, or None.

    With several processes all see it at the same step: JAX's preemption service
    spreads SIGTERM, and SIGINT is passed on as SIGTERM. `asked` must then be called by
    all of them at every step.
    """
    received: list[int] = []
    several = jax.process_count() > 1

    def handle(number: int, _frame) -> None:
        if number == signal.SIGINT and signal.SIGINT in received:
            raise KeyboardInterrupt
        received.append(number)
        if several and number == signal.SIGINT:
            os.kill(os.getpid(), signal.SIGTERM)

    def asked(step: int) -> int | None:
        if several:
            stop = multihost_utils.reached_preemption_sync_point(step)
            return (received or [signal.SIGTERM])[0] if stop else None
        return received[0] if received else None

    # JAX's service has its own handler of SIGTERM, which must stay.
    numbers = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
