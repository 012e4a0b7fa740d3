"""Pictures decoded when they are asked for: sets too large or too varied for memory.

The reading is a pool of processes or of threads (PIL releases the interpreter's lock
while it decodes and resizes), from the standard library rather than grain: a batch is a
function of (seed, step) already, so an ordered parallel map is all that is missing, and
here errors keep their type and only pictures, not lists of a million files, travel to
the workers.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, UInt8
from PIL import Image

from byol_bnfree.config import InputError, TrainConfig
from byol_bnfree.data.crops import random_crops
from byol_bnfree.data.decode import (
    Conversion,
    centre_square,
    conversion,
    decode,
    to_array,
)
from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.patience import shown
from byol_bnfree.data.reading import BadImage, Fault
from byol_bnfree.data.records import Layout, Records
from byol_bnfree.data.workers import reading_pool

EVAL_SHARE = 224 / 256  # of the shorter side; DeepMind's evaluation crop
CROP_STREAM = 1  # keeps crops' random numbers apart from those of the data order
TASKS_PER_MESSAGE = 4  # pictures sent to a worker process at a time
USABLE_CHUNK = 1024  # pictures tried between two signs of life


class StreamSource:
    """A split that is decoded at every access; `sources.Source` with `crops`.

    A bad picture met on the way raises `InputError`. Under on_bad_image="skip" it is
    added to `skipped` instead, and from then on the next good one stands in for it in
    training (with its label: ask for labels after crops). Evaluation must not count a
    picture twice: it asks for images that are `usable`.
    """

    in_memory = False

    def __init__(self, records: Records, layout: Layout, config: TrainConfig):
        self.name, self.split = records.name, records.split
        self.class_names = records.class_names
        self.num_classes = len(records.class_names) or None
        self.image_shape = (layout.size, layout.size, layout.channels)
        self.location = records.location
        self.skipped = dict(records.skipped)
        self.on_skip: Callable[[int, BadImage], None] = _forget
        self._records, self._config = records, config
        self._how = conversion(config.data)
        self.bad: dict[int, BadImage] = {}
        """Found when they were decoded, by index."""

    def __len__(self) -> int:
        return len(self._records)

    @property
    def identity(self) -> str:
        return self._records.identity

    @property
    def fingerprint(self) -> str:
        """A checksum of the files' names, sizes and times, and of the conversion."""
        size, _, channels = self.image_shape
        how = [size, channels, self._how.white, self._how.alpha]
        return checksum(self._records.fingerprint, how)

    def labels(
        self, indices: Int[np.ndarray, " b"] | None = None
    ) -> Int32[np.ndarray, " b"]:
        """Labels of all or some images; all of a large tfds set take a pass over it."""
        if indices is None:
            return self._records.labels(np.arange(len(self)))
        return self._records.labels(self._stand_in(indices))

    def images(self, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w c"]:
        """Central squares, as DeepMind evaluates; see `decode.centre_square`.

        Raises: InputError for a bad picture, whatever on_bad_image says.
        """
        found = self._views(_evaluation_view, indices, [()] * len(indices))
        for picture in found:
            if isinstance(picture, BadImage):
                raise picture.stop() from picture
        return np.stack(found)

    def with_stand_ins(
        self, indices: Int[np.ndarray, " b"]
    ) -> UInt8[np.ndarray, "b h w c"]:
        """The same; the picture that training takes instead of a bad one."""
        return self._decode(_evaluation_view, indices, [()] * len(indices))

    def usable(self, indices: Int[np.ndarray, " b"]) -> Int[np.ndarray, " m"]:
        """Those that can be decoded, which under on_bad_image="skip" is tried."""
        if self._config.on_bad_image == "stop":
            return indices
        starts = range(0, len(indices), USABLE_CHUNK)
        for start in shown(starts, len(starts), f"trying {self.name} {self.split}"):
            some = indices[start : start + USABLE_CHUNK]
            some = some[~np.isin(some, list(self.bad))]
            views = self._views(_nothing, some, [()] * len(some))
            for index, found in zip(some, views, strict=True):
                if isinstance(found, BadImage):
                    self._reject(int(index), found)
        return indices[~np.isin(indices, list(self.bad))]

    def crops(
        self,
        indices: Int[np.ndarray, " b"],
        positions: Int[np.ndarray, " b"],
        step: int,
        views: int = 2,
    ) -> UInt8[np.ndarray, "b v h w c"]:
        """Random resized crops of each picture, for view 1 and view 2.

        View 1 is the same without view 2. A pure function of the picture and (seed,
        step, position in the global batch).
        """
        seed = self._config.seed
        keys = [(seed, int(step), int(p), CROP_STREAM) for p in positions]
        both = (self._config.augment.view1, self._config.augment.view2)
        return self._decode(partial(random_crops, views=both[:views]), indices, keys)

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Printable, without the place of the data set."""
        return self._records.file_names(indices)

    def leave_out(self, bad: Mapping[int, BadImage]) -> None:
        """Never use these pictures, as an earlier part of a run did not."""
        self.bad |= bad
        self.skipped |= {picture.name: picture.reason for picture in bad.values()}

    def _decode(
        self, view: Callable, indices: Int[np.ndarray, " b"], keys: Sequence[tuple]
    ) -> np.ndarray:
        """`view` of every picture, in order; again for those that were bad."""
        done: list[Any] = [None] * len(indices)
        missing = np.arange(len(indices))
        while len(missing):
            chosen = self._stand_in(indices[missing])
            results = self._views(view, chosen, [keys[k] for k in missing])
            for k, index, result in zip(missing, chosen, results, strict=True):
                done[k] = result
                if isinstance(result, BadImage):
                    self._reject(int(index), result)
            missing = np.array([k for k in missing if isinstance(done[k], BadImage)])
        return np.stack(done)

    def _views(
        self, view: Callable, indices: Int[np.ndarray, " b"], keys: Sequence[tuple]
    ) -> list[Any]:
        """`view` of each picture, or the `BadImage` that it is.

        Raises: ReadingFailed for a fault of the machine.
        """
        task = partial(_view_of, view, self.image_shape, self._how)
        pictures = self._records.read(indices)
        found = list(self._pool.map(task, pictures, keys, chunksize=TASKS_PER_MESSAGE))
        for result in found:
            if isinstance(result, Fault):
                raise result.stop() from result
        return found

    def _stand_in(self, indices: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        """For each the first picture from it on that is not known to be bad."""
        chosen = np.array(indices)
        while (bad := np.isin(chosen, list(self.bad))).any():
            chosen[bad] = (chosen[bad] + 1) % len(self)
        return chosen

    def _reject(self, index: int, bad: BadImage) -> None:
        if self._config.on_bad_image == "stop":
            raise bad.stop() from bad
        if index not in self.bad:
            self.bad[index] = bad
            self.skipped[bad.name] = bad.reason
            self.on_skip(index, bad)
        if len(self.bad) == len(self):
            raise InputError(
                f"no picture of {self.name} {self.split} can be decoded; the last "
                f"one, {bad.name}: {bad.reason}."
            )

    def close(self) -> None:
        """End the threads or processes that read; new ones start when they must."""
        if pool := self.__dict__.pop("_pool", None):
            pool.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _pool(self) -> Executor:
        return reading_pool(self._config.data.workers)


def _view_of(
    view: Callable,
    shape: tuple[int, int, int],
    how: Conversion,
    picture: tuple,
    key: tuple,
) -> np.ndarray | BadImage | Fault | None:
    """Runs in the pool; returns a `BadImage` so that the others of a batch go on."""
    name, file = picture
    try:
        return view(decode(file, name, shape[2], how), shape[0], key=key)
    except (BadImage, Fault) as problem:
        return problem
    except MemoryError:
        return Fault(name, "no memory is left")


def _evaluation_view(
    image: Image.Image, size: int, key: tuple
) -> UInt8[np.ndarray, "h w c"]:
    del key  # nothing is random
    if image.size == (size, size):
        # As in memory: small sets such as CIFAR-10 are evaluated whole. DeepMind's
        # code, which knows ImageNet only, would cut and enlarge such a picture too.
        return to_array(image)
    return to_array(centre_square(image, size, EVAL_SHARE))


def _nothing(image: Image.Image, size: int, key: tuple) -> None:
    """The result for a picture that is only tried."""


def _forget(index: int, bad: BadImage) -> None:
    """Where nobody keeps a list of skipped pictures."""
