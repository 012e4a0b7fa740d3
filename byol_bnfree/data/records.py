"""Encoded pictures, before it is decided how to hold them."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32

from byol_bnfree.config import DataConfig, TrainConfig

VARYING_SIZE = 224  # side of the network's input where pictures differ in size


@runtime_checkable
class Records(Protocol):
    """Pictures of one split by index (`folder`, `tfds_records`)."""

    name: str
    split: str
    class_names: tuple[str, ...]
    stored_shape: tuple[int | None, int | None, int]  # h w c; None where they differ
    total: int  # pictures of both splits together, so that both are held alike
    skipped: dict[str, str]  # left out already: name to reason

    def __len__(self) -> int: ...

    @property
    def location(self) -> str:
        """Where it is on disk."""

    @property
    def identity(self) -> str:
        """A checksum of what the pictures are: the same wherever the set is copied."""

    @property
    def fingerprint(self) -> str:
        """A checksum that changes with every file, and with the place."""

    def read(self, indices: Int[np.ndarray, " b"]) -> list[tuple[str, str | bytes]]:
        """Printable name, and path or encoded bytes, of each."""

    def labels(self, indices: Int[np.ndarray, " b"]) -> Int32[np.ndarray, " b"]:
        """-1 where there is none."""

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Printable, without the place of the data set."""


class Found(NamedTuple):
    """A data set before it is decided how to hold its pictures."""

    train: Records
    test: Records | None
    """None without a picture to evaluate on."""
    notes: list[str]
    """Sentences on what was found that a user should know."""
    unused: dict[str, dict]
    """Files that are not used, by kind: how many, and examples."""
    why: str
    """The reason for the size of the input."""


def needs_test(config: TrainConfig) -> bool:
    """Whether a run evaluates; pre-training alone needs no test split."""
    evaluation = config.evaluation
    return not evaluation.skip or bool(evaluation.knn_every_epochs)


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
