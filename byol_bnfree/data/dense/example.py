"""The example of every dense task: a picture, and its targets.

| key         | array               | meaning                                     |
|-------------|---------------------|---------------------------------------------|
| `image`     | uint8 [h w c]       | the picture                                 |
| `mask`      | int32 [h w]         | class of each pixel; 255 is ignored         |
| `depth`     | float32 [h w]       | distance, in metres; 0 is unknown           |
| `boxes`     | float32 [m 4]       | y0, x0, y1, x1 in pixels                    |
| `box_class` | int32 [m]           | class of each box; -1 is padding            |
| `difficult` | bool [m]            | found or not, the box does not count        |

Pixel i covers the span from i to i + 1, so a box around all of a picture is
(0, 0, h, w). A source that lacks a target gives it as ignored, unknown or padding.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt8

from byol_bnfree.errors import InputError

Example = dict[str, np.ndarray]


class WrongSize(InputError):
    """A mask or a depth does not have the size of its picture."""


IGNORE = 255  # class of a pixel that does not count, as in VOC
PADDING = -1  # class of a row of `boxes` that holds no box
MAX_BOXES = 100  # rows of `boxes`; COCO's pictures have up to 93 objects
KNOWN = {  # what an example with a target has
    **{"mask": "pixel with a class", "depth": "pixel of known depth"},
    **{"boxes": "object that counts"},
}


@runtime_checkable
class DenseSource(Protocol):
    """One split of a data set of dense examples, by index."""

    name: str
    split: str
    targets: frozenset[str]  # what it knows, among "mask", "depth" and "boxes"
    class_names: tuple[str, ...]  # of masks: class k is class_names[k]
    box_names: tuple[str, ...]  # of boxes
    location: str  # folder on disk; "" if the set is generated
    identity: str  # checksum of the examples; copying the set does not change it
    fingerprint: str  # checksum that changes with any file

    def __len__(self) -> int: ...

    def example(self, index: int) -> Example:
        """Return an example at its own size; `InputError` if it cannot be used."""

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return printable names, relative to the data set."""


PROPERTIES = frozenset(DenseSource.__annotations__)
"""Names of what a source has beside its examples; one that wraps it copies them."""


def make_example(
    image: UInt8[np.ndarray, "h w c"],
    mask: Integer[np.ndarray, "_ _"] | None = None,
    depth: Float[np.ndarray, "_ _"] | None = None,
    boxes: Float[np.ndarray, "k 4"] | None = None,
    box_class: Int[np.ndarray, " _"] | None = None,
    difficult: Bool[np.ndarray, " _"] | None = None,
    max_boxes: int = MAX_BOXES,
) -> Example:
    """Return an example. Targets that are None are ignored, unknown or padding.

    Raises:
      InputError: if there are more than `max_boxes` boxes, or not as many classes.
      WrongSize: if mask or depth has another size than the picture.
    """
    size = image.shape[:2]
    for target, array in (("mask", mask), ("depth", depth)):
        if array is not None and array.shape != size:
            raise WrongSize(
                f"a {target} has the shape {array.shape}, but its picture has {size}; "
                f"give both in one size and orientation."
            )
    count = 0 if boxes is None else len(boxes)
    if count > max_boxes:
        raise InputError(
            f"a picture has {count} boxes, and an example holds {max_boxes}; raise "
            f"max_boxes."
        )
    for name, rows in (("box_class", box_class), ("difficult", difficult)):
        if rows is None and (count == 0 or name == "difficult"):
            continue
        if (found := 0 if rows is None else len(rows)) != count:
            raise InputError(
                f"a picture has {count} boxes, but {name} has {found} entries; give "
                f"one for each box."
            )
    # Every example has arrays of one length, so that examples can be stacked.
    unmarked = np.zeros(count, bool)
    return {
        "image": image,
        "mask": _or_full(mask, size, IGNORE, np.int32),
        "depth": _or_full(depth, size, 0, np.float32),
        "boxes": _padded(boxes, (max_boxes, 4), 0, np.float32),
        "box_class": _padded(box_class, (max_boxes,), PADDING, np.int32),
        "difficult": _padded(
            unmarked if difficult is None else difficult, (max_boxes,), False, bool
        ),
    }


def knows(target: str, example: Example, classes: int) -> bool:
    """Return True if an example, or a batch, has some of what `KNOWN` says.

    `classes` is the number of classes of masks.
    """
    if target == "mask":
        return bool((example["mask"] < classes).any())
    if target == "depth":
        return bool((example["depth"] > 0).any())
    return bool(((example["box_class"] != PADDING) & ~example["difficult"]).any())


def stacked(examples: list[Example]) -> Example:
    """Join examples of one size to a batch: every array gets a first axis."""
    return {key: np.stack([e[key] for e in examples]) for key in examples[0]}


def _or_full(array: Any, shape: tuple[int, ...], fill: Any, dtype: Any) -> np.ndarray:
    return np.full(shape, fill, dtype) if array is None else array.astype(dtype)


def _padded(rows: Any, shape: tuple[int, ...], fill: Any, dtype: Any) -> np.ndarray:
    padded = np.full(shape, fill, dtype)
    if rows is not None:
        padded[: len(rows)] = rows
    return padded
