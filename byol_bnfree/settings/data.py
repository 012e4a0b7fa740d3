"""Settings of the images."""

from dataclasses import dataclass
from typing import Literal

from byol_bnfree.settings.types import ImageSize


@dataclass(frozen=True)
class DataConfig:
    """The source of images, and how they are held."""

    image_size: ImageSize | None = None
    """Side of the input in pixels, or HEIGHT WIDTH. None: the shorter side of the
    data set's images (224 if they differ)."""
    channels: int | None = None
    """Channels of every image, 1 to 16. None: the data set's (3 if gray and colour
    are mixed). Only gray and colour are converted into each other."""
    train_split: str = "train"
    """Split for pre-training, the probe, and fitting in evaluation."""
    test_split: str = "test"
    """Split to report on. It is never trained on."""
    unlabelled: bool = False
    """folder: use all pictures at any depth, without classes."""
    white: float | None = None
    """Value of white in pictures of more than 8 bits (4095: 12 bits stored in 16; 1:
    floats up to 1). None: 65535. 16-bit colours always have 65535,
    unless they are in a TIFF file."""
    alpha: Literal["white", "black", "ignore"] = "white"
    """Colour behind transparent pixels. ignore: use the stored colours."""
    max_pixels: int = 89_478_485
    """Pictures with more pixels are refused: a small file may hold very many."""
    in_memory_gib: float = 4.0
    """Sets of equal-sized images up to this decoded size are held in memory (GiB), at
    the size of the input. Views are then cut from these copies. 0: never."""
    workers: int | None = None
    """Decoding processes per process of the run, for sets that stream; 0 means threads.
    None: one for each core but one, or threads with fewer than 4 cores."""
    shapes_train: int = 4096
    """Number of generated training images of --dataset=shapes."""
    shapes_test: int = 1024
    """Number of generated test images of --dataset=shapes."""
