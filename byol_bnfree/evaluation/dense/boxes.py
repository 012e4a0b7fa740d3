"""Boxes as arrays on the host: areas, overlaps, non-maximum suppression, cleaning.

A box is (y0, x0, y1, x1) in pixels. Its area is (y1 - y0) (x1 - x0): the corners lie on
the edges of pixels, so the box of one pixel has the area 1. VOC's files count pixels
from 1 and include the last one; `data.dense.prepared` subtracts 1 from the first
corner.

We know no maintained implementation of NMS or RoIAlign that a JAX project could
install. KerasHub has NMS for JAX but depends on TensorFlow, and has no general
RoIAlign. KerasCV is no longer developed. AXLearn's last release pins a JAX of 2023.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from byol_bnfree.data.dense.example import PADDING, Example
from byol_bnfree.errors import InputError


class Objects(NamedTuple):
    """The true objects of a picture, or a picture's padded rows of a batch."""

    boxes: Float[np.ndarray, "m 4"]
    classes: Int[np.ndarray, " m"]
    ignored: Bool[np.ndarray, " m"]
    """Difficult in VOC, crowd in COCO. Finding such an object counts as nothing."""


class Detections(NamedTuple):
    """The detected objects of a picture."""

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    """Higher means more certain."""
    classes: Int[np.ndarray, " n"]


class Faults(NamedTuple):
    """What `clean` did to the boxes of pictures."""

    clipped: int = 0
    """Boxes that reached beyond their picture and were cut."""
    dropped: int = 0
    """Boxes without area inside their picture."""

    def plus(self, other: "Faults") -> "Faults":
        """Add the counts of other pictures."""
        return Faults(self.clipped + other.clipped, self.dropped + other.dropped)

    def sentence(self, name: str) -> str:
        """Say what was done to the boxes of a data set; empty if nothing was."""
        clipped = f"{self.clipped:,} boxes reach beyond their picture and were clipped"
        dropped = f"{self.dropped:,} boxes have no area and were dropped"
        parts = [clipped] * bool(self.clipped) + [dropped] * bool(self.dropped)
        return f"{name}: {'; '.join(parts)}." if parts else ""


def areas(boxes: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
    """Return the areas of boxes; 0 where a corner lies beyond its opposite."""
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(axis=-1)


def overlaps(
    first: Float[np.ndarray, "n 4"],
    second: Float[np.ndarray, "m 4"],
    crowd: Bool[np.ndarray, " m"] | None = None,
) -> Float[np.ndarray, "n m"]:
    """Return the intersection over union of all pairs; 0 if both boxes are empty.

    In the columns of a `crowd` it is the intersection over the area of the first box,
    as in COCO: a part of a crowd lies in it completely.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.maximum(high - low, 0).prod(axis=-1)
    own, other = areas(first)[:, None], areas(second)[None, :]
    union = own + other - common
    if crowd is not None:
        union = np.where(crowd[None, :], own, union)
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def keep_best(found: Detections, threshold: float = 0.6, most: int = 100) -> Detections:
    """Apply non-maximum suppression to every class; return at most `most`, best first.

    A box goes if its overlap with a better box of its class, which stays, is above the
    threshold. Of equal scores the earlier one is the better.
    """
    order = np.argsort(-found.scores, kind="stable")
    boxes, scores, classes = (array[order] for array in found)
    rival = (overlaps(boxes, boxes) > threshold) & (classes[:, None] == classes[None])
    stays = np.ones(len(boxes), bool)
    for row in range(len(boxes)):
        if stays[row]:
            stays[row + 1 :] &= ~rival[row, row + 1 :]
    kept = np.flatnonzero(stays)[:most]
    return Detections(boxes[kept], scores[kept], classes[kept])


def objects_of(example: Example) -> Objects:
    """Return the objects of one example, without its padding."""
    rows = example["box_class"] != PADDING
    names = "boxes", "box_class", "difficult"
    return Objects(*(example[name][rows] for name in names))


def clean(
    objects: Objects, height: int, width: int, class_names: tuple[str, ...]
) -> tuple[Objects, Faults]:
    """Clip boxes to their picture and drop boxes without area; count both.

    Raises:
      InputError: for a class that has no name, and for corners that are no numbers.
    """
    wrong = (objects.classes < 0) | (objects.classes >= len(class_names))
    if wrong.any():
        raise InputError(
            f"a box has the class {objects.classes[wrong][0]}, but the set has "
            f"{len(class_names)} classes; number them 0 to {len(class_names) - 1}."
        )
    if not np.isfinite(objects.boxes).all():
        bad = objects.boxes[~np.isfinite(objects.boxes).all(axis=1)][0]
        raise InputError(
            f"a box has the corners {bad.tolist()}; give (y0, x0, y1, x1) in pixels."
        )
    limits = np.array([height, width, height, width], objects.boxes.dtype)
    inside = np.clip(objects.boxes, 0, limits)
    good = areas(inside) > 0
    changed = (inside != objects.boxes).any(axis=1)
    kept = Objects(inside[good], objects.classes[good], objects.ignored[good])
    return kept, Faults(int((changed & good).sum()), int((~good).sum()))
