"""Subsets of a source, and the choice of their images."""

import numpy as np
from jaxtyping import Bool, Int

from byol_bnfree.config import AugmentConfig
from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.sources import Source, Streaming
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.features import evaluation_indices


class Subset:
    """The images `indices` of `source`, in this order. It is what `source` is."""

    def __init__(self, source: Source | Streaming, indices: Int[np.ndarray, " n"]):
        self.source, self._indices = source, indices
        self.name, self.split = source.name, source.split
        self.class_names, self.num_classes = source.class_names, source.num_classes
        self.image_shape, self.in_memory = source.image_shape, source.in_memory
        self.skipped = source.skipped
        self.location, self.identity = source.location, source.identity

    @property
    def fingerprint(self) -> str:
        """A checksum of the source and of the chosen images."""
        return checksum(self.source.fingerprint, self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def labels(self, indices: Int[np.ndarray, " b"] | None = None):
        """Return labels, as `source` does."""
        chosen = self._indices if indices is None else self._indices[indices]
        return self.source.labels(chosen)

    def images(self, indices: Int[np.ndarray, " b"]):
        """Return images, as `source` does."""
        return self.source.images(self._indices[indices])

    def usable(self, indices: Int[np.ndarray, " b"]) -> Int[np.ndarray, " m"]:
        """Return the indices of images that can be decoded, as `source` does."""
        good = self.source.usable(self._indices[indices])
        return indices[np.isin(self._indices[indices], good)]

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return printable names, as `source` does."""
        return self.source.file_names(self._indices[indices])

    def crops(
        self,
        indices: Int[np.ndarray, " b"],
        positions: Int[np.ndarray, " b"],
        step: int,
        views: int | None = None,
        augment: AugmentConfig | None = None,
    ) -> dict[str, np.ndarray]:
        """Return random crops, as `source` does, which must be `Streaming`."""
        chosen = self._indices[indices]
        return self.source.crops(chosen, positions, step, views, augment)

    def close(self) -> None:
        """Close the source, which also closes its other subsets."""
        self.source.close()


def whole(source: Source) -> Source:
    """Return the source that a subset, or a subset of one, was chosen from."""
    return whole(source.source) if isinstance(source, Subset) else source


def limited(source: Source, limit: int | None, seed: int) -> Source:
    """Return at most `limit` images; a random subset is fixed by `seed`."""
    if limit is None or len(source) <= limit:
        return source
    return Subset(source, evaluation_indices(len(source), limit, seed))


def hold_out(n: int, seed: int, count: int | None = None) -> Bool[np.ndarray, " n"]:
    """Return True for `count` random rows of n, fixed by `seed`.

    The default is a tenth, and at least one row.

    Raises:
      InputError: if no row would be left for training.
    """
    count = max(1, n // 10) if count is None else count
    if count >= n:
        raise InputError(
            f"{count:,} of {n:,} training images cannot be held out; hold out fewer, "
            f"or use more images."
        )
    chosen = np.random.default_rng(seed).permutation(n)[:count]
    return np.isin(np.arange(n), chosen)


def rows_held_out(
    n: int, seed: int, count: int | None = None
) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " v"]]:
    """Return the rows to train on, and those that `hold_out` keeps for validation."""
    held_out = hold_out(n, seed, count)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def class_balanced(
    labels: Int[np.ndarray, " n"], count: int, names: tuple[str, ...], seed: int
) -> Int[np.ndarray, " m"]:
    """Choose `count` random images of every class, fixed by `seed`. Return their
    sorted indices.

    Raises:
      InputError: if a class has fewer images.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(names):
        rows = np.flatnonzero(labels == label)
        if len(rows) < count:
            raise InputError(
                f"class {name!r} has {len(rows)} images to choose from, but {count} "
                f"are needed; ask for a smaller share."
            )
        chosen.append(rng.choice(rows, count, replace=False))
    return np.sort(np.concatenate(chosen))
