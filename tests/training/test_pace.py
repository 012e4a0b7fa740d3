"""Waiting for data counts only while no step runs."""

import threading

import pytest

from byol_bnfree.training import pace
from byol_bnfree.training.pace import Pace


class Step:
    """An array of a step that ends when it is told to."""

    def __init__(self, error: Exception | None = None):
        self._ended, self._error = threading.Event(), error

    def end(self) -> None:
        """End, and let the thread that waits for it note the time."""
        self._ended.set()
        for thread in threading.enumerate():
            if thread.name == "end of step":
                thread.join()

    def is_ready(self) -> bool:
        return self._ended.is_set()

    def block_until_ready(self):
        self._ended.wait()
        if self._error is not None:
            raise self._error


@pytest.fixture
def now(monkeypatch):
    """The time in seconds, as a list of one number."""
    clock = [0.0]
    monkeypatch.setattr(pace.time, "perf_counter", lambda: clock[0])
    return clock


@pytest.mark.parametrize(
    "ends_at, waited",
    [("before", 10.0), (4.0, 6.0), (10.0, 0.0), ("after", 0.0), (None, 10.0)],
)
@pytest.mark.parametrize("error", [None, RuntimeError("lost")], ids=["fine", "fails"])
def test_waiting_is_the_time_after_the_end_of_the_last_step(
    ends_at, waited, error, now
):
    """A batch that comes after 10 s, and a step that ends at some time."""
    step = None if ends_at is None else Step(error)
    if ends_at == "before":
        step.end()

    def batches():
        if isinstance(ends_at, float):
            now[0] = ends_at
            step.end()
        now[0] = 10.0
        yield "batch"

    rows = Pace(batch_size=4, _began=0.0)
    assert rows.next_batch(batches(), step) == "batch"
    assert rows.waited == waited
    now[0] = 20.0
    assert rows.close_row(1)["perf/data_wait"] == waited / 20
    if ends_at == "after":
        step.end()


def test_a_device_that_is_always_busy_does_not_wait_for_data(now):
    """The host is two steps ahead, so it waits for batches without any harm."""
    rows, steps = Pace(batch_size=4, _began=0.0), [Step() for _ in range(5)]

    def batches():
        for _ in steps:
            now[0] += 1.0
            yield None

    stream = batches()
    for step in steps:
        rows.next_batch(stream, step)
    assert rows.waited == 0
    for step in steps:
        step._ended.set()
