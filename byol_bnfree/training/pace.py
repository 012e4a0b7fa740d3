"""The pace of a running training: its rate, its waiting for data, the time left."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax

FIRST_STEP = "perf/first_step_seconds"
"""Column of the first row of a process, which compiles in its first step."""


@dataclass
class Pace:
    """Times the rows of a process. Saves and evaluations do not count as training."""

    batch_size: int
    waited: float = 0.0
    """Seconds of this row in which no step ran, because its data were missing."""
    _paused: float = 0.0
    """Seconds of this process's saves and evaluations so far."""
    _steps: int = 0
    """Steps of this process in finished rows."""
    _began: float = field(default_factory=time.perf_counter)
    _cold: bool = True
    _first: float | None = None
    """Seconds until this process had finished its first step; for its first row."""

    def next_batch(self, stream: Iterator[Any], running: Any) -> Any:
        """Return the next batch. The time without a running step counts as waiting.

        Args:
          stream: the batches.
          running: an array of the step that was dispatched last; None if it is done.
        """
        began = time.perf_counter()
        done = _times_of_end(running, began)
        batch = next(stream)
        if done:  # a step that still runs keeps the device busy
            self.waited += time.perf_counter() - max(began, done[0])
        return batch

    def without(self, work: Callable[[], Any]) -> Any:
        """Run `work` without counting its time in the training rate."""
        began = time.perf_counter()
        result = work()
        took = time.perf_counter() - began
        self._began += took  # as if the row had begun later
        self._paused += took
        return result

    def step_done(self) -> None:
        """Note that a step is done. The first one compiles, so its time is no rate."""
        if self._cold:
            self._cold, self._first = False, time.perf_counter() - self._began

    def close_row(self, steps: int) -> dict[str, float]:
        """Return the perf/ columns of a row of `steps` steps, and begin the next row.

        images/s leaves out the first step of this process. It is NaN if the row has no
        other step.
        """
        now = time.perf_counter()
        seconds, columns = now - self._began, {}
        images, steady = self.batch_size * steps, seconds
        if self._first is not None:
            columns[FIRST_STEP] = self._first
            images, steady = images - self.batch_size, seconds - self._first
        columns["perf/images_per_s"] = images / steady if images else math.nan
        columns["perf/data_wait"] = self.waited / seconds
        columns["perf/seconds"] = seconds
        self._steps += steps
        self.waited, self._first, self._began = 0.0, None, now
        return columns

    def seconds_left(self, steps: int, images_per_s: float) -> float:
        """Return the seconds of `steps` steps at this rate, and with the usual pauses.

        The rate leaves saves and evaluations out, so their time is added.
        """
        training = steps * self.batch_size / images_per_s
        return training + steps * self._paused / self._steps


def _times_of_end(running: Any, now: float) -> list[float]:
    """Return a list that gets the time at which a step is done, as soon as it is."""
    if running is None or running.is_ready():
        return [now]
    done: list[float] = []

    def wait() -> None:
        """Wait for the step. If it fails, the main thread raises its error."""
        with contextlib.suppress(Exception):
            jax.block_until_ready(running)  # it moves nothing to the host
        done.append(time.perf_counter())

    # A daemon, since a step may hang after another process is lost.
    threading.Thread(target=wait, daemon=True, name="end of step").start()
    return done
