"""Encoded pictures of a data set, before we decide how to hold them."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32

from byol_bnfree.config import DataConfig, TrainConfig, height_and_width

VARYING_SIZE = 224  # side of the network's input if the pictures differ in size


@runtime_checkable
class Records(Protocol):
    """The pictures of one split, by index (`folder`, `tfds_records`)."""

    name: str
    split: str
    class_names: tuple[str, ...]
    stored_shape: tuple[int | None, int | None, int]  # h w c; None if they differ
    total: int  # pictures of both splits together, so that both are held alike
    skipped: dict[str, str]  # pictures already left out: name to reason

    def __len__(self) -> int: ...

    @property
    def location(self) -> str:
        """Folder of the data set on disk."""

    @property
    def identity(self) -> str:
        """A checksum of the pictures. It stays the same when the set is copied."""

    @property
    def fingerprint(self) -> str:
        """A checksum that changes with every file and with the location."""

    def read(self, indices: Int[np.ndarray, " b"]) -> list[tuple[str, str | bytes]]:
        """Return a printable name, and a path or the encoded bytes, for each index."""

    def labels(self, indices: Int[np.ndarray, " b"]) -> Int32[np.ndarray, " b"]:
        """Return the labels; -1 means no label."""

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return printable names, relative to the data set."""


class Found(NamedTuple):
    """A data set, before we decide how to hold its pictures."""

    train: Records
    test: Records | None
    """None if there are no pictures to evaluate on."""
    notes: list[str]
    """Sentences that the user should read."""
    unused: dict[str, dict]
    """Files that are not used, by kind: their number, and examples."""
    why: str
    """The reason for the size of the input."""


def needs_test(config: TrainConfig) -> bool:
    """Return True if the run evaluates. Pre-training alone needs no test split."""
    evaluation = config.evaluation
    return not evaluation.skip or evaluation.knn_in_training


class Layout(NamedTuple):
    """The network's input, and True if a whole split is held in memory."""

    size: tuple[int, int]
    """Height and width."""
    channels: int
    in_memory: bool

    @property
    def words(self) -> str:
        """The size as "32", or "32x48" where the input is not square."""
        height, width = self.size
        return str(height) if height == width else f"{height}x{width}"


def layout_of(records: Records, data: DataConfig) -> Layout:
    """Choose the input size: from the settings, else from the data set.

    Both splits get the same size. Sets of equal-sized pictures are held in memory if
    their decoded size (before resizing) is below the limit. Large photographs stream,
    so that their crops come from the originals.
    """
    height, width, channels = records.stored_shape
    if height is None or width is None:
        size, in_memory = VARYING_SIZE, False
    else:
        size = min(height, width)
        decoded = records.total * height * width * channels
        in_memory = decoded <= data.in_memory_gib * 2**30
    size = height_and_width(data.image_size or size)
    return Layout(size, data.channels or channels, in_memory)
