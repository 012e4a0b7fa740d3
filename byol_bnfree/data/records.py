"""Encoded pictures, before it is decided how to hold them."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32

from byol_bnfree.config import DataConfig

VARYING_SIZE = 224  # side of the network's input where pictures differ in size


@runtime_checkable
class Records(Protocol):
    """Pictures of one split by index (`folder`, `tfds_records`)."""

    name: str
    split: str
    class_names: tuple[str, ...]
    stored_shape: tuple[int | None, int | None, int]  # h w c; None where they differ
    total: int  # pictures of both splits together, so that both are held alike
    skipped: list[str]  # left out already, by name

    def __len__(self) -> int: ...

    def read(self, indices: Int[np.ndarray, " b"]) -> list[tuple[str, str | bytes]]:
        """Printable name, and path or encoded bytes, of each."""

    def labels(self, indices: Int[np.ndarray, " b"]) -> Int32[np.ndarray, " b"]:
        """-1 where there is none."""


class Layout(NamedTuple):
    """The network's input, and whether a whole split is held in memory."""

    size: int
    channels: int
    in_memory: bool


def layout_of(records: Records, data: DataConfig) -> Layout:
    """Sizes from the configuration, else the data set's own; same for both splits.

    Equal-sized sets are held in memory up to a limit on their decoded size, before
    they are resized: large photographs stream, so that crops come from the original.
    """
    height, width, channels = records.stored_shape
    if height is None or width is None:
        size, in_memory = VARYING_SIZE, False
    else:
        size = min(height, width)
        decoded = records.total * height * width * channels
        in_memory = decoded <= data.in_memory_gib * 2**30
    channels = data.channels or (1 if channels == 1 else 3)
    return Layout(data.image_size or size, channels, in_memory)
