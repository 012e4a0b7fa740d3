"""A data set as a random-access source of uint8 images and labels.

`config.dataset` is `shapes` (generated), `folder:PATH` (see `folder`) or the name of a
tensorflow-datasets set on disk. Sets of equal-sized images up to data.in_memory_gib
are decoded once into one array, and the device crops them. All others stream: their
pictures are decoded at every access, and the host crops them.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32, UInt8

from byol_bnfree.config import InputError, TrainConfig
from byol_bnfree.data import shapes
from byol_bnfree.data.decode import BadImage, centre_square, decode, to_array
from byol_bnfree.data.folder import open_folder
from byol_bnfree.data.records import Layout, Records, layout_of
from byol_bnfree.data.stream import StreamSource
from byol_bnfree.data.tfds_records import open_prepared
from byol_bnfree.memory import check_memory

CHUNK = 64  # pictures decoded by one task of a thread
SHAPE_BYTES = 1000  # what is drawn for a shape before its pixels, about


@runtime_checkable
class Source(Protocol):
    """One split of a data set. If not `in_memory`, it is a `stream.StreamSource`."""

    name: str
    split: str
    class_names: tuple[str, ...]  # () without labels
    image_shape: tuple[int, int, int]  # (h, w, c) the network sees; h == w
    in_memory: bool  # all images are held at `image_shape`, cropped on the device
    skipped: list[str]  # pictures left out under on_bad_image="skip"

    @property
    def num_classes(self) -> int | None:
        """None without labels."""

    def __len__(self) -> int: ...

    def labels(
        self, indices: Int[np.ndarray, " b"] | None = None
    ) -> Int32[np.ndarray, " b"]:
        """Of all images or of some; -1 where there is none."""

    def images(self, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w c"]:
        """Pictures as evaluation sees them."""


@dataclass
class MemorySource:
    """All images of a split in one array."""

    name: str
    split: str
    class_names: tuple[str, ...]
    pixels: UInt8[np.ndarray, "n h w c"]
    targets: Int32[np.ndarray, " n"]
    skipped: list[str]
    in_memory = True

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def num_classes(self) -> int | None:
        return len(self.class_names) or None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.pixels.shape[1:]

    def labels(
        self, indices: Int[np.ndarray, " b"] | None = None
    ) -> Int32[np.ndarray, " b"]:
        """Of all images or of some; -1 where there is none."""
        return self.targets if indices is None else self.targets[indices]

    def images(self, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w c"]:
        """Whole pictures, as training crops them and evaluation sees them."""
        return self.pixels[indices]


def open_source(config: TrainConfig, split: Literal["train", "test"]) -> Source:
    """The training or the test split that `config` names.

    Both splits have the same image_shape and are held in the same way. Raises
    `InputError` for a set that is missing, empty or unreadable, and, under
    on_bad_image="stop", for the first picture found to be bad: at once in sets of up
    to `folder.SCAN_LIMIT` files (headers) and in sets held in memory (everything).
    """
    if config.dataset == "shapes":
        return _open_shapes(config, split)
    is_folder = config.dataset.startswith("folder:")
    records = (open_folder if is_folder else open_prepared)(config, split)
    layout = layout_of(records, config.data)
    if len(records) and not layout.in_memory:
        return StreamSource(records, layout, config)
    source = _load(records, layout, config.on_bad_image == "skip")
    if not len(source):
        raise InputError(
            f"the {split} split of {config.dataset} has no usable picture "
            f"({len(source.skipped)} were left out as bad); give it some."
        )
    return source


def _open_shapes(config: TrainConfig, split: Literal["train", "test"]) -> MemorySource:
    data = config.data
    if (data.train_split, data.test_split) != ("train", "test"):
        raise InputError(
            f"--data.train-split {data.train_split!r} and --data.test-split "
            f"{data.test_split!r} do not apply to the shapes, which have train and "
            f"test; set their sizes with --data.shapes-train and --data.shapes-test."
        )
    n = data.shapes_train if split == "train" else data.shapes_test
    size, channels = data.image_size or 32, data.channels or 3
    check_memory(
        {f"{n:,} shapes of {size} pixels": n * (size**2 * channels + SHAPE_BYTES)},
        f"lower --data.shapes-{split} or --data.image-size",
    )
    images, labels = shapes.generate(split, n, size, channels)
    return MemorySource("shapes", split, shapes.CLASS_NAMES, images, labels, [])


def _load(records: Records, layout: Layout, skip: bool) -> MemorySource:
    """Decode everything; other sizes than the network's are resized, bicubic."""
    n = len(records)
    shape = (n, layout.size, layout.size, layout.channels)
    check_memory(
        {f"{n:,} images of {layout.size} pixels": math.prod(shape)},
        "lower --data.in-memory-gib, so that they stream, or --data.image-size",
    )
    pixels = np.empty(shape, np.uint8)
    bad: dict[int, BadImage] = {}

    def load(start: int) -> None:
        rows = np.arange(start, min(start + CHUNK, n))
        for row, (name, file) in zip(rows, records.read(rows), strict=True):
            try:
                image = decode(file, name, layout.channels)
                pixels[row] = to_array(centre_square(image, layout.size, share=1.0))
            except BadImage as error:
                bad[row] = error
                if not skip:
                    raise error.stop() from error

    with ThreadPoolExecutor() as threads:
        for _ in threads.map(load, range(0, n, CHUNK)):
            pass
    kept = np.array([row for row in range(n) if row not in bad], int)
    return MemorySource(
        records.name,
        records.split,
        records.class_names,
        pixels[kept] if bad else pixels,
        records.labels(kept),
        [*records.skipped, *(bad[row].name for row in sorted(bad))],
    )
