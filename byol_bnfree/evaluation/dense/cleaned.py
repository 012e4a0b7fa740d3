"""A dense source whose boxes can be used: clipped, not empty, of known classes."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from byol_bnfree.data.dense.example import (
    DenseSource,
    Example,
    make_example,
)
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.dense.boxes import Faults, clean, objects_of

PROPERTIES = (
    *("name", "split", "targets", "class_names", "box_names"),
    *("location", "identity", "fingerprint"),
)


@dataclass(frozen=True)
class Cleaned:
    """Cleans the boxes of a source and counts what it changed, once per picture.

    It has all other properties of its source.
    """

    source: DenseSource
    _faults: dict[int, Faults] = field(default_factory=dict)

    def __post_init__(self):
        for name in PROPERTIES:
            object.__setattr__(self, name, getattr(self.source, name))

    def __len__(self) -> int:
        return len(self.source)

    def example(self, index: int) -> Example:
        """Return an example with clean boxes; `InputError` names a bad picture."""
        example = self.source.example(index)
        height, width = example["image"].shape[:2]
        names = self.source.box_names
        try:
            objects, faults = clean(objects_of(example), height, width, names)
        except InputError as error:
            name = self.source.file_names(np.array([index]))[0]
            raise InputError(f"{self.source.name}, {name}: {error}") from error
        self._faults[index] = faults
        rows = len(example["boxes"])
        padded = make_example(example["image"], None, None, *objects, rows)
        return example | {
            name: padded[name] for name in ("boxes", "box_class", "difficult")
        }

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return printable names, as `source` does."""
        return self.source.file_names(indices)

    def sentence(self) -> str:
        """Say what was changed in the pictures that were read; empty if nothing was."""
        total = Faults()
        for faults in self._faults.values():
            total = total.plus(faults)
        return total.sentence(f"{self.source.name} {self.source.split}")
