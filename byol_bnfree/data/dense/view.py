"""Dense examples in windows of one size, as batches for training and for tests."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from jaxtyping import Int, Int32, UInt8

from byol_bnfree.config import AugmentConfig
from byol_bnfree.data.dense.example import (
    PROPERTIES,
    DenseSource,
    Example,
    stacked,
)
from byol_bnfree.data.dense.transform import (
    HALF,
    central_draw,
    random_draw,
    transform,
)
from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.workers import usable_cores

# The stream of random numbers. NumPy pads seeds with zeros, so without a last number
# that is not 0 the windows of row 0 would have the numbers of an epoch's order.
WINDOW_STREAM = 1


@dataclass(frozen=True)
class DenseSubset:
    """The examples `indices` of a dense source. It has all its other properties."""

    source: DenseSource
    indices: Int[np.ndarray, " n"]

    def __post_init__(self):
        for name in PROPERTIES - {"fingerprint"}:
            object.__setattr__(self, name, getattr(self.source, name))

    @property
    def fingerprint(self) -> str:
        """A checksum of the source and of the chosen examples."""
        return checksum(self.source.fingerprint, self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def example(self, index: int) -> Example:
        """Return an example, as `source` does."""
        return self.source.example(int(self.indices[index]))

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return printable names, as `source` does."""
        return self.source.file_names(self.indices[indices])


@dataclass(frozen=True)
class Windows:
    """How windows are cut from pictures."""

    size: tuple[int, int]
    """Height and width."""
    scales: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest random scale in training."""
    test_scale: float = 1.0
    """Scale of all pictures, in training and in tests."""
    flip: bool = True
    central: bool = False
    """Training windows lie at the centre of their picture, as those of tests do."""
    depth_by_scale: bool = False
    fill: int = HALF


@dataclass(frozen=True)
class DenseView:
    """A dense source through windows. It is a `sources.Streaming` source.

    `crops` gives random windows for training; they depend on (seed, step, position)
    only. `examples` gives the central window of each picture for tests.
    """

    source: DenseSource
    windows: Windows
    seed: int = 0
    in_memory: bool = False

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def split(self) -> str:
        return self.source.split

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes of masks."""
        return len(self.source.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a window."""
        return (*self.windows.size, self.source.example(0)["image"].shape[-1])

    @property
    def skipped(self) -> dict[str, str]:
        return {}

    @property
    def location(self) -> str:
        return self.source.location

    @property
    def identity(self) -> str:
        return self.source.identity

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def crops(
        self,
        indices: Int[np.ndarray, " b"],
        positions: Int[np.ndarray, " b"],
        step: int,
        views: int | None = None,
        augment: AugmentConfig | None = None,
    ) -> Example:
        """Return random windows; every array of an example gets a first axis b.

        Windows have settings of their own, so `views` and `augment` have no effect.
        """
        places = zip(indices.tolist(), positions.tolist(), strict=True)
        crop = partial(self._crop, step)
        return stacked(list(_threads().map(crop, places)))

    def examples(self, indices: Int[np.ndarray, " b"]) -> Example:
        """Return the central windows of pictures, as `crops` returns random ones."""
        return stacked(list(_threads().map(self._central, indices.tolist())))

    def images(self, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w c"]:
        """Return the pictures of `examples`."""
        return self.examples(indices)["image"]

    def labels(
        self, indices: Int[np.ndarray, " b"] | None = None
    ) -> Int32[np.ndarray, " b"]:
        """Return -1 for every picture: it has no single class."""
        return np.full(len(self) if indices is None else len(indices), -1, np.int32)

    def subset(self, indices: Int[np.ndarray, " n"]) -> "DenseView":
        """Return a view of these pictures only, in this order."""
        return dataclasses.replace(self, source=DenseSubset(self.source, indices))

    def usable(self, indices: Int[np.ndarray, " b"]) -> Int[np.ndarray, " m"]:
        return indices

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        return self.source.file_names(indices)

    def close(self) -> None:
        """Do nothing: all views share their threads."""

    def _crop(self, step: int, place: tuple[int, int]) -> Example:
        """Return a random window for the index and the position of a picture."""
        index, position = place
        draws = np.random.default_rng([self.seed, step, position, WINDOW_STREAM])
        example = self.source.example(index)
        size = self._resized(example)
        windows = self.windows
        draw = random_draw(
            draws,
            size,
            windows.size,
            windows.scales,
            flip=windows.flip,
            central=windows.central,
        )
        return self._cut(example, draw)

    def _central(self, index: int) -> Example:
        """Return the central window of a picture."""
        example = self.source.example(index)
        draw = central_draw(self._resized(example), self.windows.size)
        return self._cut(example, draw)

    def _resized(self, example: Example) -> tuple[int, int]:
        """Return the size of a picture at `test_scale`."""
        height, width = example["image"].shape[:2]
        scale = self.windows.test_scale
        return max(1, round(scale * height)), max(1, round(scale * width))

    def _cut(self, example: Example, draw) -> Example:
        return transform(
            example,
            draw,
            self.windows.size,
            depth_by_scale=self.windows.depth_by_scale,
            fill=self.windows.fill,
        )


@cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads that read the pictures of all views."""
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="pictures")
