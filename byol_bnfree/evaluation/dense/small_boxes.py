"""Counts the boxes that no place of a feature map lies in: FCOS cannot learn them."""

import numpy as np
from jaxtyping import Bool, Float

from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.evaluation.dense.boxes import objects_of
from byol_bnfree.evaluation.dense.places import grid_of, places
from byol_bnfree.evaluation.dense.training import Fitter

READ = 256  # pictures whose boxes are counted; to decode all may take long
FEW = 0.02  # share of lost boxes that needs no smaller stride


def lost_boxes(fitter: Fitter, train: DenseView) -> str | None:
    """Say how many training boxes contain no place of the map; None if all do.

    It counts in a random window of each of the first pictures. Difficult objects are
    left out.
    """
    boxes = np.concatenate([_boxes(train, row) for row in range(min(READ, len(train)))])
    module, size = fitter.module, train.windows.size

    def lost(stride: int) -> int:
        counts = tuple(-(-side // stride) for side in size)
        points = np.asarray(places(size, counts, grid_of(module)))
        return int((~_hit(boxes, points)).sum())

    stride = module.total_stride
    if not (count := lost(stride)):
        return None
    advice, smaller = "", stride // 2
    while smaller >= module.stem_total:
        advice = f"; give --detection.stride={smaller}"
        if lost(smaller) <= FEW * len(boxes):
            break
        smaller //= 2
    return (
        f"{count:,} of {len(boxes):,} training boxes contain no place of the map at "
        f"stride {stride}, so they cannot be learned (counted in the first "
        f"{min(READ, len(train)):,} pictures){advice}."
    )


def _boxes(view: DenseView, row: int) -> Float[np.ndarray, "m 4"]:
    example = view.crops(np.array([row]), np.array([row]), step=0)
    objects = objects_of({name: array[0] for name, array in example.items()})
    return objects.boxes[~objects.ignored]


def _hit(
    boxes: Float[np.ndarray, "m 4"], points: Float[np.ndarray, "h w 2"]
) -> Bool[np.ndarray, " m"]:
    """Return True for the boxes that a point lies in. The points are a grid."""
    found = [
        (axis > boxes[:, low, None]) & (axis < boxes[:, low + 2, None])
        for low, axis in enumerate((points[:, 0, 0], points[0, :, 1]))
    ]
    return found[0].any(axis=1) & found[1].any(axis=1)
