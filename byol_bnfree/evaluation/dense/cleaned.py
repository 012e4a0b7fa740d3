"""A dense source whose targets can be used: known classes, clipped boxes, depths."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from byol_bnfree.data.dense.example import (
    IGNORE,
    PROPERTIES,
    DenseSource,
    Example,
    make_example,
)
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.dense.boxes import Faults, clean, objects_of

BOXES = ("boxes", "box_class", "difficult")


@dataclass(frozen=True)
class Cleaned:
    """Checks or cleans one target of a source: "mask", "depth" or "boxes".

    Depths that are negative or no numbers become unknown. Changes of boxes are counted,
    once per picture. It has all other properties of its source.
    """

    source: DenseSource
    target: str
    _faults: dict[int, Faults] = field(default_factory=dict)

    def __post_init__(self):
        for name in PROPERTIES:
            object.__setattr__(self, name, getattr(self.source, name))

    def __len__(self) -> int:
        return len(self.source)

    def example(self, index: int) -> Example:
        """Return an example that can be used; `InputError` names a bad picture."""
        example = self.source.example(index)
        try:
            if self.target == "mask":
                _check_mask(example["mask"], len(self.source.class_names))
                return example
            if self.target == "depth":
                depth = example["depth"]
                known = np.isfinite(depth) & (depth > 0)
                return example | {"depth": np.where(known, depth, 0)}
            boxes, self._faults[index] = self._boxes(example)
        except InputError as error:
            name = self.source.file_names(np.array([index]))[0]
            raise InputError(f"{self.source.name}, {name}: {error}") from error
        return example | boxes

    def _boxes(self, example: Example) -> tuple[Example, Faults]:
        """Return the arrays of clean boxes, and what was changed."""
        height, width = example["image"].shape[:2]
        names = self.source.box_names
        objects, faults = clean(objects_of(example), height, width, names)
        rows = len(example["boxes"])
        padded = make_example(example["image"], None, None, *objects, rows)
        return {name: padded[name] for name in BOXES}, faults

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return printable names, as `source` does."""
        return self.source.file_names(indices)

    def sentence(self) -> str:
        """Say what was changed in the pictures that were read; empty if nothing was."""
        total = Faults()
        for faults in self._faults.values():
            total = total.plus(faults)
        return total.sentence(f"{self.source.name} {self.source.split}")


def _check_mask(mask: np.ndarray, classes: int) -> None:
    """Raise `InputError` for a class that has no name."""
    wrong = mask[((mask < 0) | (mask >= classes)) & (mask != IGNORE)]
    if wrong.size:
        raise InputError(
            f"the mask has the class {wrong[0]}, but the set has {classes} classes; "
            f"number them 0 to {classes - 1}, and use {IGNORE} for pixels to ignore."
        )
