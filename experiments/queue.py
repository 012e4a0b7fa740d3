"""Does many runs, one after another or in parallel, until all are finished.

The work folders are the memory of the queue. The same command continues a queue that
was ended. Several queues may share the folders: each locks the run it does. The system
releases the lock when the process ends in any way.
"""

import contextlib
import fcntl
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from byol_bnfree.errors import Interrupted
from byol_bnfree.machine.signals import name, terminals, write_nowhere
from experiments.grid import Run, checksum_now, settings_checksum
from experiments.places import Places
from experiments.runner import Failure, Processes, describe, do, recall
from experiments.slots import MACHINE, Slot

PATIENCE = 180.0
"""Seconds in which a training saves and ends after its queue was killed."""
Expect = Callable[[Run], float | None]
"""Returns the expected seconds of a run."""


CHANGED = (
    "its recipe or encoder has changed since this command began; give the command "
    "again, and the run counts as a new one."
)


class Done(NamedTuple):
    """The result of a queue."""

    failures: list[Failure]
    elsewhere: list[Run]
    """Runs that another command was doing when this one ended."""


def run_queue(
    runs: Sequence[Run],
    places: Places,
    slots: Sequence[Slot] = (MACHINE,),
    expect: Expect = lambda run: None,
) -> Done:
    """Do every run that is not finished, each in the next free slot."""
    queue = _Queue(runs, places, expect, len(slots))
    with _ended_by_signals():
        threads = [threading.Thread(target=queue.work, args=(slot,)) for slot in slots]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                threads[0].join(0.2)  # short, so that signals are handled
                for thread in threads[1:]:
                    thread.join(0.01)
        except BaseException as error:
            queue.stop()  # each run saves, and the next queue resumes it
            for thread in threads:
                thread.join()
            if isinstance(error, KeyboardInterrupt):
                raise _interrupted(error) from None
            raise
    if queue.error is not None:
        raise queue.error
    return Done(queue.failures, queue.elsewhere)


class _Queue:
    """The remaining runs, shared by the threads of the slots."""

    def __init__(self, runs, places, expect, slots):
        self._numbered = list(enumerate(runs, 1))
        self._places = places
        self._total = len(self._numbered)
        self._changed, self._processes = threading.Condition(), Processes()
        self._planned = {run.flags: settings_checksum(run.flags) for run in runs}
        self._busy: set[tuple] = set()
        self._left = _TimeLeft(
            [run for run in runs if places.state(run) != "finished"], expect, slots
        )
        self.failures: list[Failure] = []
        self.elsewhere: list[Run] = []
        self.error: BaseException | None = None

    def work(self, slot: Slot) -> None:
        """Do one run after another until none is left."""
        try:
            with slot.taken():
                while (taken := self._next()) is not None:
                    try:
                        self._take(*taken, slot)
                    finally:
                        self._release(taken[1])
        except BaseException as error:  # an error of this program, not of a run
            self.error = self.error or error
            self.stop()

    def stop(self) -> None:
        """Start no more runs, and tell those in progress to save."""
        with self._changed:
            self._numbered.clear()
            self._changed.notify_all()
        self._processes.stop()

    def _next(self) -> tuple[int, Run] | None:
        """Take the next run; None if none is left.

        Equal runs of two experiments are one training, so the second waits for the
        first and then takes its row.
        """
        with self._changed:
            while self._numbered:
                for place, (_, run) in enumerate(self._numbered):
                    if run.training not in self._busy:
                        self._busy.add(run.training)
                        return self._numbered.pop(place)
                self._changed.wait()
            return None

    def _release(self, run: Run) -> None:
        with self._changed:
            self._busy.discard(run.training)
            self._changed.notify_all()

    def _take(self, number: int, run: Run, slot: Slot) -> None:
        title = f"[{number}/{self._total}] {run.experiment} {run.arm} seed {run.seed}"
        with claimed(self._places.claim(run)) as mine:
            state = self._places.state(run)
            if mine and state == "finished":
                self._left.drop(run)
                row = recall(run, self._places, self._processes)
                say(f"{title}: finished before: {describe(row)}")
                return
            if not mine or self._stays_busy(run, title):
                self._left.drop(run)
                say(f"{title}: another command is doing it")
                self.elsewhere.append(run)
                return
            # The training reads the files of recipes and encoders anew.
            if checksum_now(run.flags) != self._planned[run.flags]:
                self._left.drop(run)
                self._failed(title, Failure(run, CHANGED))
                return
            state = self._places.state(run)
            word = "resumes" if state == "interrupted" else "starts"
            say(f"{title}: {word} on {slot.name}{self._left}")
            began = time.monotonic()
            row = do(run, self._places, self._processes, slot)
            self._left.ended(run, time.monotonic() - began)
        if isinstance(row, Failure):
            if self._processes.stopped:
                return  # it was told to stop; the next queue resumes it
            log = self._places.workdir(run) / "train.log"
            self._failed(f"{title} ({log} has all that it said)", row)
        else:
            say(f"{title}: {describe(row)}; {row['wall_seconds'] / 60:.1f} minutes")

    def _failed(self, title: str, failure: Failure) -> None:
        self.failures.append(failure)
        say(f"{title}: FAILED: {failure.why}")

    def _stays_busy(self, run: Run, title: str) -> bool:
        """Wait for a training whose queue was killed; True if it does not end."""
        workdir, until = self._places.workdir(run), time.monotonic() + PATIENCE
        if _is_training(workdir):
            say(f"{title}: an earlier training of it is ending; waiting for it")
        while _is_training(workdir):
            if self._processes.stopped or time.monotonic() > until:
                return True
            time.sleep(0.2)
        return False


class _TimeLeft:
    """The time that the open runs will take, from the times of earlier runs."""

    def __init__(self, runs: Sequence[Run], expect: Expect, slots: int):
        # Equal runs of several experiments are one training.
        self._open = {run.training: expect(run) for run in runs}
        self._slots, self._took = slots, []

    def ended(self, run: Run, seconds: float) -> None:
        """Note that a run has ended, with any result."""
        self.drop(run)
        self._took.append(seconds)

    def drop(self, run: Run) -> None:
        """Note that this queue has nothing more to do for a run."""
        self._open.pop(run.training, None)

    def __str__(self) -> str:
        expected = list(self._open.values())  # at once: other threads drop runs
        known = [seconds for seconds in expected if seconds is not None]
        unknown = len(expected) - len(known)
        if not known and self._took:  # as long as the earlier runs, on average
            known = [sum(self._took) / len(self._took)] * unknown
            unknown = 0
        if not known:
            return ""
        runs = "run" if unknown == 1 else "runs"
        more = f" and {unknown} {runs} of unknown length" if unknown else ""
        return f"; about {_time(sum(known) / self._slots)}{more} left, with this one"


def _time(seconds: float) -> str:
    """Write a time in whole minutes, and above two hours in hours."""
    minutes = max(round(seconds / 60), 1)
    if minutes > 120:
        return f"{seconds / 3600:.1f} hours"
    return f"{minutes} minute{'s' * (minutes != 1)}"


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Lock a file; yield True if this queue has it. The lock ends with the process.

    On a file system without locks every queue has it. The training warns there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass
        yield True


def _is_training(workdir: Path) -> bool:
    """Say if a training holds the folder, as one does whose queue was killed."""
    try:
        with open(workdir / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock file, or a file system without locks
        return False
    return False


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal (SIGHUP) as Ctrl-C, so that the runs in
    progress are told to save. Under nohup SIGHUP stays ignored.
    """
    shown, asked = terminals(), []

    def stop(number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            write_nowhere(shown)
        if not asked:  # a shell may send SIGHUP again while the runs save
            asked.append(number)
            raise KeyboardInterrupt(number)

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupted(error: KeyboardInterrupt) -> Interrupted:
    """Return what ends the command after a signal, once the runs in progress ended."""
    number = error.args[0] if error.args else signal.SIGINT
    return Interrupted(
        f"stopped by {name(number)}; the same command resumes the runs in progress.",
        status=128 + number,
    )


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)
