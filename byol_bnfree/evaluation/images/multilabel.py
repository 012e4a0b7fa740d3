"""Images with several classes at once, as in VOC 2007."""

import numpy as np
from jaxtyping import Int, Int8

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.sources import Source, open_source
from byol_bnfree.data.tfds_records import object_classes
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.images.subset import Subset


class ManyLabels(Subset):
    """A source whose `labels` have one row per image and one column per class.

    A value is 1 if the class is present and -1 if it is absent. It is 0 if all objects
    of the class are marked as difficult; the image then does not count for this class.
    """

    def __init__(
        self, source: Source, names: tuple[str, ...], rows: Int8[np.ndarray, "n k"]
    ):
        super().__init__(source, np.arange(len(source)))
        self.class_names, self.num_classes = names, len(names)
        self._rows = rows

    @property
    def fingerprint(self) -> str:
        """A checksum of the images and of their labels."""
        return checksum(super().fingerprint, self._rows)

    def labels(
        self, indices: Int[np.ndarray, " b"] | None = None
    ) -> Int8[np.ndarray, "b k"]:
        """Return the labels [b k] of all or some images."""
        return self._rows if indices is None else self._rows[indices]


def open_many_labels(
    config: TrainConfig, split: str, crop_share: float | None = None
) -> ManyLabels:
    """Open a split of a prepared set of images with objects; see `open_source`.

    Raises:
      InputError: for sets without objects, and if images cannot be decoded.
    """
    source = open_source(config, split, crop_share=crop_share)
    names, rows = object_classes(config, split)
    if len(rows) != len(source):
        raise InputError(
            f"{len(rows) - len(source)} images of {source.name} {split} cannot be "
            f"decoded, and its labels do not say which; prepare it again."
        )
    return ManyLabels(source, names, rows)
