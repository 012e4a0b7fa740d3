"""Batches of global arrays as a function of (seed, step), without other state.

The data is an endless stream of positions. Position p = step * batch_size + i holds
image p % n of epoch p // n, and every epoch is a permutation drawn from (seed, epoch).
A resumed run therefore needs only its step. The order does not depend on the number of
processes or devices.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Int

from byol_bnfree.config import AugmentConfig
from byol_bnfree.data.sources import Source, Streaming
from byol_bnfree.errors import InputError

PREFETCH = 2  # batches that are made ahead, at the same time


def stream_order(
    seed: int, start: int, stop: int, n: int
) -> Int[np.ndarray, " positions"]:
    """Return the image numbers at positions start to stop - 1 of the shuffled stream.

    A batch may contain images of two epochs, so no image is dropped. n may be smaller
    than a batch.
    """
    epochs = range(start // n, (stop - 1) // n + 1)
    parts = [
        _epoch_order(seed, epoch, n)[max(start - epoch * n, 0) : stop - epoch * n]
        for epoch in epochs
    ]
    return np.concatenate(parts)


@functools.lru_cache(maxsize=2)  # drawing the order of ImageNet takes 14 ms
def _epoch_order(seed: int, epoch: int, n: int) -> Int[np.ndarray, " n"]:
    # NumPy pads seeds with zeros, so epoch 0 has the numbers of [seed] alone.
    # A stream that must differ from all orders ends in a number that is not 0.
    return np.random.default_rng([seed, epoch]).permutation(n)


class Batches:
    """Batches of a source, distributed over devices. `batches(step)` has no state.

    A batch is a dict of global arrays:

    - "image": uint8 [B h w c]; or, if the source streams and a user's function does not
      make the views, "crops": uint8 [B views h w c], with "small_crops" if training has
      small views;
    - "label": int32 [B]; -1 means no label;
    - "position": int32 [B], the place of each example in the batch. Its random numbers
      derive from it.

    `views` is the number of crops, and `augment` has their areas; None makes those of
    training.
    `sharding` splits axis 0 over the mesh axis `data`. Every process reads only the
    rows of its own devices, each row once.
    """

    def __init__(
        self,
        source: Source | Streaming,
        batch_size: int,
        seed: int,
        sharding: Sharding,
        views: int | None = None,
        augment: AugmentConfig | None = None,
    ):
        if len(source) == 0:
            raise InputError(f"the {source.split} split of {source.name} is empty.")
        self._source, self._sharding = source, sharding
        self._batch_size, self._seed = batch_size, seed
        self._views, self._augment = views, augment
        self._rows = local_rows(sharding, batch_size)

    def __call__(self, step: int) -> dict[str, jax.Array]:
        size, start = self._batch_size, step * self._batch_size
        order = stream_order(self._seed, start, start + size, len(self._source))
        indices = order[self._rows]
        if self._source.in_memory:
            local = {"image": self._source.images(indices)}
        else:
            local = self._source.crops(
                indices, self._rows, step, self._views, self._augment
            )
        local["label"] = self._source.labels(indices)  # after the pictures: see stream
        local["position"] = self._rows.astype(np.int32)
        return {
            name: global_array(rows, self._rows, self._sharding, size)
            for name, rows in local.items()
        }

    def iterate(self, start_step: int, stop_step: int) -> Iterator[dict]:
        """Yield the batches start_step to stop_step - 1; see `made_ahead`."""
        return made_ahead(self, range(start_step, stop_step), PREFETCH)


def made_ahead(
    make: Callable[[int], Any], items: Iterable[int], ahead: int
) -> Iterator[Any]:
    """Yield `make(item)` for each item. Threads make `ahead` more meanwhile.

    Each thread makes one batch at a time. The workers that decode can then begin the
    next batch before the last pictures of this one are done.

    An error in a thread is raised here, at the batch it belongs to. Closing the
    iterator drops the batches made ahead and ends the threads.
    """
    threads = ThreadPoolExecutor(PREFETCH, thread_name_prefix="batches")
    try:
        made: deque = deque()
        for item in items:
            made.append(threads.submit(make, item))
            if len(made) > ahead:
                yield made.popleft().result()
        while made:
            yield made.popleft().result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def local_rows(sharding: Sharding, size: int) -> Int[np.ndarray, " rows"]:
    """Return the rows of a batch that the devices of this process hold, each once."""
    slices = sharding.addressable_devices_indices_map((size,)).values()
    # Several devices may hold the same rows.
    return np.unique(np.concatenate([np.arange(size)[index] for index in slices]))


def global_array(
    local: np.ndarray, rows: Int[np.ndarray, " rows"], sharding: Sharding, size: int
) -> jax.Array:
    """Build a global array of `size` rows from those of this process, `local_rows`."""

    def rows_of(index: tuple[slice, ...]) -> np.ndarray:
        wanted = range(size)[index[0]]
        first = np.searchsorted(rows, wanted.start)
        return local[first : first + len(wanted)]

    return jax.make_array_from_callback((size, *local.shape[1:]), sharding, rows_of)
