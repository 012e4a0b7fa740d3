"""Pictures that are decoded at every access: sets too large or too varied for memory.

A pool of processes or threads reads the pictures. PIL releases the interpreter's lock
while it decodes and resizes. We use the standard library instead of grain: a batch is
already a function of (seed, step), so we only need an ordered parallel map. Errors keep
their type, and only pictures travel to the workers, not lists of a million files.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, UInt8

from byol_bnfree.config import InputError, TrainConfig, image_size_of
from byol_bnfree.data.crops import large_and_small_crops, random_crops
from byol_bnfree.data.decode import decode
from byol_bnfree.data.eight_bits import Conversion, conversion
from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.geometry import Picture, centre_crop, to_array
from byol_bnfree.data.patience import shown
from byol_bnfree.data.reading import BadImage, Fault
from byol_bnfree.data.records import Layout, Records
from byol_bnfree.data.view_settings import small_side, view_config
from byol_bnfree.data.workers import reading_pool

EVAL_SHARE = 224 / 256  # of the shorter side; DeepMind's evaluation crop
CROP_STREAM = 1  # separates the random numbers of crops from those of the data order
TASKS_PER_MESSAGE = 4  # pictures sent to a worker process at a time
USABLE_CHUNK = 1024  # pictures tried between two progress lines


class StreamSource:
    """A split that is decoded at every access; `sources.Source` with `crops`.

    A bad picture raises `InputError`. Under on_bad_image="skip" it is added to
    `skipped` instead. In training the next good picture then replaces it, together with
    its label, so read labels after crops. Evaluation must not count a picture twice:
    it uses only the images that are `usable`.
    """

    in_memory = False

    def __init__(self, records: Records, layout: Layout, config: TrainConfig):
        self.name, self.split = records.name, records.split
        self.class_names = records.class_names
        self.num_classes = len(records.class_names) or None
        self.image_shape = (*layout.size, layout.channels)
        self.location = records.location
        self.skipped = dict(records.skipped)
        self.on_skip: Callable[[int, BadImage], None] = _forget
        self._records, self._config = records, config
        self._how = conversion(config.data)
        self.bad: dict[int, BadImage] = {}
        """Bad pictures found while decoding, by index."""

    def __len__(self) -> int:
        return len(self._records)

    @property
    def identity(self) -> str:
        return self._records.identity

    @property
    def fingerprint(self) -> str:
        """A checksum of the files' names, sizes and times, and of the conversion."""
        height, width, channels = self.image_shape
        size = image_size_of(height, width)
        how = [size, channels, self._how.white, self._how.alpha]
        return checksum(self._records.fingerprint, how)

    def labels(
        self, indices: Int[np.ndarray, " b"] | None = None
    ) -> Int32[np.ndarray, " b"]:
        """Return labels of all or some images. All labels of a large tfds set need a
        pass over its records."""
        if indices is None:
            return self._records.labels(np.arange(len(self)))
        return self._records.labels(self._stand_in(indices))

    def images(self, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w c"]:
        """Return central squares, as DeepMind evaluates; see `geometry.centre_crop`.

        Raises:
          InputError: for a bad picture, whatever on_bad_image says.
        """
        found = self._views(_evaluation_view, indices, [()] * len(indices))
        for picture in found:
            if isinstance(picture, BadImage):
                raise picture.stop() from picture
        return np.stack(found)

    def with_stand_ins(
        self, indices: Int[np.ndarray, " b"]
    ) -> UInt8[np.ndarray, "b h w c"]:
        """Return `images`, with replacements for bad pictures as in training."""
        return np.stack(self._decode(_evaluation_view, indices, [()] * len(indices)))

    def usable(self, indices: Int[np.ndarray, " b"]) -> Int[np.ndarray, " m"]:
        """Return the indices of pictures that can be decoded.

        Under on_bad_image="skip" each picture is decoded once to find out. Under "stop"
        all indices are returned.
        """
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
        views: int | None = None,
    ) -> dict[str, UInt8[np.ndarray, "b v h w c"]]:
        """Return random resized crops of each picture: the part of a batch.

        "crops" holds `views` crops, or those of training (None). Training with small
        views has "small_crops" too. They depend on the picture and (seed, step,
        position in the global batch) only. A view does not change if others after it
        are left out.
        """
        config, settings = self._config, self._config.views
        keys = [(config.seed, int(step), int(p), CROP_STREAM) for p in positions]
        count = settings.count if views is None else views
        large = [view_config(i, config.augment, settings) for i in range(count)]
        if views is not None or not settings.small:
            cut = partial(random_crops, views=large)
            return {"crops": np.stack(self._decode(cut, indices, keys))}
        height, width, _ = self.image_shape
        cut = partial(
            large_and_small_crops,
            views=large,
            small=[
                view_config(count + i, config.augment, settings)
                for i in range(settings.small)
            ],
            small_size=(small_side(height, settings), small_side(width, settings)),
        )
        found = zip(*self._decode(cut, indices, keys), strict=True)
        return dict(zip(("crops", "small_crops"), map(np.stack, found), strict=True))

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return printable names, relative to the data set."""
        return self._records.file_names(indices)

    def leave_out(self, bad: Mapping[int, BadImage]) -> None:
        """Skip pictures that an earlier part of the run has skipped."""
        self.bad |= bad
        self.skipped |= {picture.name: picture.reason for picture in bad.values()}

    def _decode(
        self, view: Callable, indices: Int[np.ndarray, " b"], keys: Sequence[tuple]
    ) -> list[Any]:
        """Apply `view` to every picture, in order. Replace bad ones and try again."""
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
        return done

    def _views(
        self, view: Callable, indices: Int[np.ndarray, " b"], keys: Sequence[tuple]
    ) -> list[Any]:
        """Apply `view` to each picture. Return a `BadImage` for a bad one.

        Raises:
          ReadingFailed: if the machine failed.
        """
        task = partial(_view_of, view, self.image_shape, self._how)
        pictures = self._records.read(indices)
        found = list(self._pool.map(task, pictures, keys, chunksize=TASKS_PER_MESSAGE))
        for result in found:
            if isinstance(result, Fault):
                raise result.stop() from result
        return found

    def _stand_in(self, indices: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        """Replace each bad picture by the next one that is not known to be bad."""
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
) -> Any:
    """Decode one picture in the pool. Errors are returned, so the batch can go on."""
    name, file = picture
    try:
        return view(decode(file, name, shape[2], how), shape[:2], key=key)
    except (BadImage, Fault) as problem:
        return problem
    except MemoryError:
        return Fault(name, "no memory is left")


def _evaluation_view(
    image: Picture, size: tuple[int, int], key: tuple
) -> UInt8[np.ndarray, "h w c"]:
    del key  # nothing is random
    if image.size == size[::-1]:
        # Small sets such as CIFAR-10 are evaluated whole, as if held in memory.
        # DeepMind's code knows ImageNet only. It would cut and enlarge such pictures.
        return to_array(image)
    return to_array(centre_crop(image, size, EVAL_SHARE))


def _nothing(image: Picture, size: tuple[int, int], key: tuple) -> None:
    """Return nothing, for pictures that are only tried."""


def _forget(index: int, bad: BadImage) -> None:
    """Do nothing, for sources whose skipped pictures are not recorded."""
