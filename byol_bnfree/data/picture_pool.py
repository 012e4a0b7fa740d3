"""Decodes pictures in a pool of processes or threads, and passes over bad ones.

PIL releases the interpreter's lock while it decodes and resizes. We use the standard
library instead of grain: a batch is already a function of (seed, step), so we only need
an ordered parallel map. Errors keep their type, and only pictures travel to the
workers, not lists of a million files.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.decode import decode
from byol_bnfree.data.eight_bits import Conversion, conversion
from byol_bnfree.data.geometry import Picture
from byol_bnfree.data.patience import shown
from byol_bnfree.data.reading import BadImage, Fault, ReadingFailed
from byol_bnfree.data.records import Records
from byol_bnfree.data.workers import reading_pool, worker_processes
from byol_bnfree.errors import InputError

MESSAGES_PER_WORKER = 2  # of a batch, so that no worker waits long for the others
PICTURES_PER_MESSAGE = 4  # at most, sent to a worker process at a time
USABLE_CHUNK = 1024  # pictures tried between two progress lines


class PicturePool:
    """Decodes pictures of one split, by index.

    A bad picture raises `InputError`. Under on_bad_image="skip" it is added to
    `skipped` instead, and the next good picture stands in for it. Which one that is
    does not depend on the pictures that are known to be bad, so several threads may
    decode at a time.
    """

    def __init__(
        self, records: Records, shape: tuple[int, int, int], config: TrainConfig
    ):
        self.bad: dict[int, BadImage] = {}
        """Bad pictures found while decoding, by index."""
        self.skipped = dict(records.skipped)
        """Names of pictures that are left out, with the reasons."""
        self.on_skip: Callable[[int, BadImage], None] = _forget
        """Called with each picture that turns out to be bad."""
        self._records, self._shape, self._config = records, shape, config
        self._how = conversion(config.data)
        self._lock = threading.RLock()  # of the bad pictures and of the pool
        self._pool: Executor | None = None

    def decode(
        self, view: Callable, indices: Int[np.ndarray, " b"], keys: Sequence[tuple]
    ) -> list[Any]:
        """Apply `view` to every picture, in order. Replace bad ones and try again."""
        done: list[Any] = [None] * len(indices)
        missing = np.arange(len(indices))
        # The stand-in may be bad too, so we repeat until all are good.
        while len(missing):
            chosen = self.stand_in(indices[missing])
            results = self.attempt(view, chosen, [keys[k] for k in missing])
            for k, index, result in zip(missing, chosen, results, strict=True):
                done[k] = result
                if isinstance(result, BadImage):
                    self._reject(int(index), result)
            missing = np.array([k for k in missing if isinstance(done[k], BadImage)])
        return done

    def attempt(
        self, view: Callable, indices: Int[np.ndarray, " b"], keys: Sequence[tuple]
    ) -> list[Any]:
        """Apply `view` to each picture. Return a `BadImage` for a bad one.

        Raises:
          ReadingFailed: if the machine failed, or ended a process of the pool.
        """
        task = partial(_view_of, view, self._shape, self._how)
        pictures = self._records.read(indices)
        pool = self._running()
        size = message_size(len(indices), worker_processes(self._config.data.workers))
        try:
            found = list(pool.map(task, pictures, keys, chunksize=size))
        except BrokenExecutor as error:
            self._end(pool)  # such a pool stays broken
            raise ReadingFailed(
                "a process that decodes pictures was ended, perhaps for lack of "
                "memory; lower --data.workers."
            ) from error
        for result in found:
            if isinstance(result, Fault):
                raise result.stop() from result
        return found

    def stand_in(self, indices: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        """Replace each bad picture by the next one that is not known to be bad.

        Raises:
          InputError: if all pictures are bad.
        """
        with self._lock:
            self._check_some_left()
            known = list(self.bad)
        chosen = np.array(indices)
        while (bad := np.isin(chosen, known)).any():
            chosen[bad] = (chosen[bad] + 1) % len(self._records)
        return chosen

    def usable(self, indices: Int[np.ndarray, " b"]) -> Int[np.ndarray, " m"]:
        """Return the indices of pictures that can be decoded.

        Under on_bad_image="skip" each picture is decoded once to find out. Under "stop"
        all indices are returned.
        """
        if self._config.on_bad_image == "stop":
            return indices
        starts = range(0, len(indices), USABLE_CHUNK)
        title = f"trying {self._records.name} {self._records.split}"
        for start in shown(starts, len(starts), title):
            some = indices[start : start + USABLE_CHUNK]
            some = some[~np.isin(some, list(self.bad))]
            views = self.attempt(_nothing, some, [()] * len(some))
            for index, found in zip(some, views, strict=True):
                if isinstance(found, BadImage):
                    self._reject(int(index), found)
        return indices[~np.isin(indices, list(self.bad))]

    def leave_out(self, bad: Mapping[int, BadImage]) -> None:
        """Skip pictures that an earlier part of the run has skipped."""
        with self._lock:
            self.bad |= bad
            self.skipped |= {picture.name: picture.reason for picture in bad.values()}

    def close(self) -> None:
        """End the threads or processes that read; new ones start when they must."""
        if self._pool is not None:
            self._end(self._pool)

    def _running(self) -> Executor:
        """Return the pool. The first call starts it."""
        with self._lock:
            if self._pool is None:
                self._pool = reading_pool(self._config.data.workers)
            return self._pool

    def _end(self, pool: Executor) -> None:
        """End this pool. Another thread may have started a new one meanwhile."""
        with self._lock:
            if self._pool is pool:
                self._pool = None
        pool.shutdown(wait=False, cancel_futures=True)

    def _reject(self, index: int, bad: BadImage) -> None:
        if self._config.on_bad_image == "stop":
            raise bad.stop() from bad
        with self._lock:
            # A batch may have a picture twice: as itself and as a stand-in.
            if index not in self.bad:
                self.bad[index] = bad
                self.skipped[bad.name] = bad.reason
                self.on_skip(index, bad)
            self._check_some_left()

    def _check_some_left(self) -> None:
        """Raise `InputError` if no picture is left to stand in for the bad ones."""
        if len(self.bad) == len(self._records):
            last = list(self.bad.values())[-1]
            raise InputError(
                f"no picture of {self._records.name} {self._records.split} can be "
                f"decoded; the last one, {last.name}: {last.reason}."
            )


def message_size(pictures: int, workers: int) -> int:
    """Return how many pictures a message to a worker process holds.

    Large messages cost less each. But the last ones of a batch would then keep a few
    workers busy while the others wait.
    """
    fair = pictures // (MESSAGES_PER_WORKER * max(1, workers))
    return max(1, min(fair, PICTURES_PER_MESSAGE))


def _view_of(
    view: Callable,
    shape: tuple[int, int, int],
    how: Conversion,
    picture: tuple,
    key: tuple,
) -> Any:
    """Decode one picture in the pool. Errors are returned, so the batch can go on."""
    name, file = picture
    try:
        return view(decode(file, name, shape[2], how), shape[:2], key=key)
    except (BadImage, Fault) as problem:
        return problem
    except MemoryError:
        return Fault(name, "no memory is left")


def _nothing(image: Picture, size: tuple[int, int], key: tuple) -> None:
    """Return nothing, for pictures that are only tried."""


def _forget(index: int, bad: BadImage) -> None:
    """Do nothing, for pools whose skipped pictures are not recorded."""
