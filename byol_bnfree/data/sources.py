"""Data sets as random-access sources of uint8 images and labels.

`config.dataset` is `shapes` (generated), `folder:PATH` (see `folder`) or the name of a
prepared set of tensorflow-datasets. Sets of equal-sized images up to data.in_memory_gib
are decoded once into one array, and the device crops them. All other sets stream: their
pictures are decoded at every access, and the host crops them.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32, UInt8

from byol_bnfree.config import (
    AugmentConfig,
    TrainConfig,
    height_and_width,
    image_size_of,
)
from byol_bnfree.data import shapes
from byol_bnfree.data.eight_bits import conversion
from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.folder import open_folder
from byol_bnfree.data.memory_source import MemorySource as MemorySource
from byol_bnfree.data.memory_source import load
from byol_bnfree.data.records import Found, Layout, Records, layout_of
from byol_bnfree.data.stream import StreamSource
from byol_bnfree.data.tfds_records import open_both
from byol_bnfree.data.view_settings import small_side
from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded
from byol_bnfree.machine.memory import check_memory

SHAPE_BYTES = 1000  # approximate memory of a shape's random numbers
Split = Literal["train", "test"]


@runtime_checkable
class Source(Protocol):
    """One split of a data set. If not `in_memory`, it is a `Streaming` source."""

    name: str
    split: str
    class_names: tuple[str, ...]  # () without labels
    image_shape: tuple[int, int, int]  # (h, w, c) of the network's input
    in_memory: bool  # True: all images are held at `image_shape`, the device crops
    skipped: dict[str, str]  # left out under on_bad_image="skip": name to reason
    location: str  # folder on disk; "" if the set is generated
    identity: str  # checksum of the images; copying the set does not change it

    @property
    def fingerprint(self) -> str:
        """A checksum that changes with any image."""

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None without labels."""

    def __len__(self) -> int: ...

    def labels(
        self, indices: Int[np.ndarray, " b"] | None = None
    ) -> Int32[np.ndarray, " b"]:
        """Return the labels of all or some images; -1 means no label."""

    def images(self, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w c"]:
        """Return pictures as evaluation uses them."""

    def usable(self, indices: Int[np.ndarray, " b"]) -> Int[np.ndarray, " m"]:
        """Return the indices of images that can be decoded, in order."""

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return printable names, relative to the data set."""

    def close(self) -> None:
        """End what runs beside it, such as the threads that read pictures."""


@runtime_checkable
class Streaming(Source, Protocol):
    """A source that is not held in memory. The host cuts its pictures."""

    def crops(
        self,
        indices: Int[np.ndarray, " b"],
        positions: Int[np.ndarray, " b"],
        step: int,
        views: int | None = None,
        augment: AugmentConfig | None = None,
    ) -> dict[str, np.ndarray]:
        """Return the part of a batch; see `StreamSource.crops` and `DenseView.crops`.

        Call it before `labels`, because it may replace bad pictures.
        """


class DataSet(NamedTuple):
    """A data set that was found. Its pictures are decoded when a split is opened."""

    config: TrainConfig
    found: Found | None
    """None for the generated shapes."""

    def __len__(self) -> int:
        """Return the number of training images. Bad ones may still be left out."""
        if self.found is None:
            return self.config.data.shapes_train
        return len(self.found.train)

    @property
    def notes(self) -> list[str]:
        """Sentences that a user should read, such as files that are not used."""
        return [] if self.found is None else list(self.found.notes)

    def open(self, split: Split, crop_share: float | None = None) -> Source | None:
        """Open the training or the test split; None for a test split without pictures.

        Both splits have the same image_shape and are held in the same way. `crop_share`
        is that of `open_source`.

        Raises:
          InputError: if the split is empty. Under on_bad_image="stop" also for a bad
            picture of a set that is held in memory.
        """
        if self.found is None:
            return _open_shapes(self.config, split)
        records = self.found.train if split == "train" else self.found.test
        return None if records is None else _open(records, self.config, crop_share)


def same_set(dataset: str, other: str) -> bool:
    """Return True if two values of --dataset name one set. A folder has many paths."""
    if not (dataset.startswith("folder:") and other.startswith("folder:")):
        return dataset == other
    one, two = (text.removeprefix("folder:") for text in (dataset, other))
    return expanded(one).resolve() == expanded(two).resolve()


def absolute(dataset: str) -> str:
    """Return a value of --dataset that means the same in every working folder.

    Links stay: a link may lead to another disk tomorrow.
    """
    if not dataset.startswith("folder:"):
        return dataset
    return f"folder:{os.path.abspath(expanded(dataset.removeprefix('folder:')))}"


def holds(config: TrainConfig, path: str | Path) -> bool:
    """Return True if a path lies among the pictures of the folder of --dataset.

    A folder of splits has pictures in its training and its test split only.
    """
    kind, named, folder = config.dataset.partition("folder:")
    if kind or not named or not folder:
        return False
    folder, path = (expanded(place).resolve() for place in (folder, path))
    if not path.is_relative_to(folder):
        return False
    inside, names = path.relative_to(folder).parts, _splits_of(folder, config)
    return not inside or not names or inside[0].casefold() in names


def _splits_of(folder: Path, config: TrainConfig) -> set[str]:
    """Return the names of a folder's splits in lower case; none if it has none."""
    train, test = (
        name.casefold() for name in (config.data.train_split, config.data.test_split)
    )
    found = folder.iterdir() if folder.is_dir() else ()
    has_splits = any(p.name.casefold() == train and p.is_dir() for p in found)
    return {train, test} if has_splits else set()


def find_data(config: TrainConfig) -> DataSet:
    """Find the data set that `config` names, before any picture is decoded.

    Raises:
      InputError: if the set is missing, empty or unreadable, or a setting does not
        apply to it. Under on_bad_image="stop" also for the first picture with a bad
        header.
    """
    if config.dataset.startswith("folder:"):
        return DataSet(config, open_folder(config))
    if config.data.unlabelled:
        raise InputError(
            f"--data.unlabelled belongs to --dataset=folder:PATH, and not to "
            f"{config.dataset}; remove it."
        )
    if config.dataset == "shapes":
        _check_shapes(config)
        return DataSet(config, None)
    return DataSet(config, open_both(config))


def open_source(
    config: TrainConfig,
    split: Split,
    say: Callable[[str], None] | None = None,
    crop_share: float | None = None,
) -> Source:
    """Open one split of `config`'s data set. `say` takes notes on the set.

    `crop_share` is the part of a picture's shorter side that evaluation sees of a set
    that streams. None: DeepMind's. Sets that are held in memory are seen whole.

    Raises:
      InputError: as `find_data`, and if there is no such split.
    """
    data_set = find_data(config)
    for note in data_set.notes if say is not None else ():
        say(f"note: {note}")
    source = data_set.open(split, crop_share)
    if source is None:
        raise InputError(
            f"the {split} split of {config.dataset} has no usable picture; give every "
            f"class at least two, or train without a test split (--evaluation.skip)."
        )
    return source


def _open(
    records: Records, config: TrainConfig, crop_share: float | None = None
) -> Source:
    layout = layout_of(records, config.data)
    if len(records) and not layout.in_memory:
        advice = "lower --data.image-size, --views.count or --views.small"
        check_memory(_crop_bytes(layout, config), advice)
        return StreamSource(records, layout, config, crop_share)
    skip = config.on_bad_image == "skip"
    source = load(records, layout, conversion(config.data), skip)
    if not len(source):
        raise InputError(
            f"the {records.split} split of {config.dataset} has no usable picture "
            f"({len(source.skipped)} were left out as bad); add some."
        )
    return source


def _crop_bytes(layout: Layout, config: TrainConfig) -> dict[str, int]:
    """Return the bytes of what the host cuts from one picture, by its name."""
    views, large = config.views, math.prod(layout.size) * layout.channels
    if config.augment.function is not None:
        return {f"a picture of {layout.words} pixels": large}
    needed = {f"{views.count} crops of {layout.words} pixels": views.count * large}
    if views.small:
        height, width = (small_side(side, views) for side in layout.size)
        words = f"{views.small} small crops of {image_size_of(height, width)} pixels"
        needed[words] = views.small * height * width * layout.channels
    return needed


def _check_shapes(config: TrainConfig) -> None:
    data = config.data
    if (data.train_split, data.test_split) != ("train", "test"):
        raise InputError(
            f"--data.train-split {data.train_split!r} and --data.test-split "
            f"{data.test_split!r} do not apply to the shapes, which have train and "
            f"test; set their sizes with --data.shapes-train and --data.shapes-test."
        )
    if data.channels not in (None, 1, 3):
        raise InputError(
            f"--data.channels {data.channels} does not apply to the shapes, which are "
            f"gray (1) or coloured (3); give --dataset=folder:PATH."
        )


def _open_shapes(config: TrainConfig, split: Split) -> MemorySource:
    data = config.data
    n = data.shapes_train if split == "train" else data.shapes_test
    height, width = height_and_width(data.image_size or 32)
    size, channels = max(height, width), data.channels or 3
    check_memory(
        {f"{n:,} shapes of {size} pixels": n * (size**2 * channels + SHAPE_BYTES)},
        f"lower --data.shapes-{split} or --data.image-size",
    )
    # Shapes are square. A rectangle is cut from their centre.
    images, labels = shapes.generate(split, n, size, channels)
    top, left = (size - height) // 2, (size - width) // 2
    images = images[:, top : top + height, left : left + width]
    shown = image_size_of(height, width)
    identity = checksum("shapes", shapes.SEED, split, n, shown, channels)
    return MemorySource(
        "shapes", split, shapes.CLASS_NAMES, images, labels, identity=identity
    )
