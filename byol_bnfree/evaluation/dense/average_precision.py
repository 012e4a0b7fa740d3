"""Average precision of detections by the rules of VOC and of COCO.

A detection is right if it overlaps an object of its class enough and no better
detection took that object. Each rule walks through the detections of a class from the
best score to the worst and follows precision against recall:

| rule         | average of the precision over | object that a detection takes       |
|--------------|-------------------------------|-------------------------------------|
| VOC to 2009  | 11 recalls                    | the one that it overlaps most       |
| COCO         | 101 recalls                   | the free one that it overlaps most  |

The precision at a recall is the best one at this recall or a higher one. A class
without objects has no average precision (NaN) and the mean leaves it out.

References: Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge",
section 4.2, and VOC's development kit; Lin et al. 2014 (arXiv 1405.0312) and its tools,
pycocotools.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from byol_bnfree.evaluation.dense.boxes import Detections, Objects, overlaps

VOC_OVERLAP = np.array([0.5])
COCO_OVERLAPS = np.linspace(0.5, 0.95, 10)  # AP is the mean over these
COCO_MOST = 100  # detections of a class that count in a picture
ROUNDING = 1e-9  # 3 of 10 objects must reach recall 0.3


class Matches(NamedTuple):
    """The detections of a class in all pictures, in the order of the pictures."""

    scores: Float[np.ndarray, " n"]
    right: Bool[np.ndarray, "t n"]
    """For each threshold of the overlap."""
    counts: Bool[np.ndarray, "t n"]
    """False for detections of ignored objects: they are neither right nor wrong."""
    objects: int
    """Objects that are not ignored."""


def detection_figures(
    found: Sequence[Detections], truth: Sequence[Objects], num_classes: int
) -> dict[str, float]:
    """Return the means over classes: VOC's AP50 (11 points), COCO's AP50 and AP.

    They lie in [0, 1], or are NaN if no picture has an object.
    """
    coco = coco_precisions(found, truth, num_classes)
    return {
        "ap50_voc": mean_of_classes(voc_precisions(found, truth, num_classes)),
        "ap50_coco": mean_of_classes(coco[:, 0]),
        "ap_coco": mean_of_classes(coco.mean(axis=1)),
    }


def mean_of_classes(precisions: Float[np.ndarray, " k"]) -> float:
    """Average over the classes that have objects; NaN if none has."""
    known = precisions[~np.isnan(precisions)]
    return float(known.mean()) if len(known) else float("nan")


def voc_precisions(
    found: Sequence[Detections],
    truth: Sequence[Objects],
    num_classes: int,
) -> Float[np.ndarray, " k"]:
    """Return each class's average precision by VOC's rule, NaN without objects.

    Ignored objects are VOC's difficult ones. A right detection has an intersection over
    union of half or more.
    """
    result = np.full(num_classes, np.nan)
    for label in range(num_classes):
        matches = _matches_of_class(found, truth, label, VOC_OVERLAP, "voc")
        if matches.objects:
            result[label] = eleven_points(*_curve(matches, 0))
    return result


def coco_precisions(
    found: Sequence[Detections], truth: Sequence[Objects], num_classes: int
) -> Float[np.ndarray, "k 10"]:
    """Return each class's precision by COCO's rule, at overlaps .5, .55, ... .95.

    Ignored objects are COCO's crowds: any number of detections may lie in one. At most
    100 detections of a class count in a picture. A class without objects is NaN.
    """
    result = np.full((num_classes, len(COCO_OVERLAPS)), np.nan)
    for label in range(num_classes):
        matches = _matches_of_class(found, truth, label, COCO_OVERLAPS, "coco")
        if matches.objects:
            curves = (_curve(matches, row) for row in range(len(COCO_OVERLAPS)))
            result[label] = [hundred_and_one_points(*curve) for curve in curves]
    return result


def eleven_points(
    recall: Float[np.ndarray, " n"], precision: Float[np.ndarray, " n"]
) -> float:
    """Average the best precision at recalls 0, 0.1, ..., 1."""
    levels = np.linspace(0, 1, 11) - ROUNDING
    best = [precision[recall >= level].max(initial=0) for level in levels]
    return float(np.mean(best))


def hundred_and_one_points(
    recall: Float[np.ndarray, " n"], precision: Float[np.ndarray, " n"]
) -> float:
    """Average the best precision at recalls 0, 0.01, ..., 1."""
    levels = np.linspace(0, 1, 101)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    best = np.append(envelope, 0)  # 0 beyond the largest recall
    return float(best[np.searchsorted(recall, levels, side="left")].mean())


def _curve(
    matches: Matches, row: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return recall and precision after each detection that counts, best first."""
    order = np.argsort(-matches.scores, kind="stable")
    order = order[matches.counts[row][order]]
    right = np.cumsum(matches.right[row][order])
    return right / matches.objects, right / np.arange(1, len(order) + 1)


def _matches_of_class(
    found: Sequence[Detections],
    truth: Sequence[Objects],
    label: int,
    thresholds: Float[np.ndarray, " t"],
    rule: Literal["voc", "coco"],
) -> Matches:
    """Match the detections of one class in every picture."""
    match, most = (_coco, COCO_MOST) if rule == "coco" else (_voc, None)
    # Empty parts come first, so that a class without detections can be joined too.
    empty = np.zeros((len(thresholds), 0), bool)
    scores, right, counts, objects = [np.zeros(0)], [empty], [empty], 0
    for seen, true in zip(found, truth, strict=True):
        mine, own = seen.classes == label, true.classes == label
        if not (mine.any() or own.any()):
            continue
        order = np.argsort(-seen.scores[mine], kind="stable")[:most]
        boxes, ignored = seen.boxes[mine][order], true.ignored[own]
        objects += int((~ignored).sum())
        scores.append(seen.scores[mine][order])
        crowd = ignored if rule == "coco" else None
        overlap = overlaps(boxes, true.boxes[own], crowd)
        pairs = [match(overlap, ignored, threshold) for threshold in thresholds]
        right.append(np.array([pair[0] for pair in pairs]))
        counts.append(np.array([pair[1] for pair in pairs]))
    joined = (np.concatenate(parts, axis=-1) for parts in (scores, right, counts))
    return Matches(*joined, objects)


def _voc(
    overlap: Float[np.ndarray, "n m"], ignored: Bool[np.ndarray, " m"], least: float
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Match each detection, best first, with the object that it overlaps most.

    Only the first detection of an object is right. Those of a difficult object do not
    count.
    """
    right, counts = np.zeros(len(overlap), bool), np.ones(len(overlap), bool)
    if not overlap.size:
        return right, counts
    taken = np.zeros(len(ignored), bool)
    for row, nearest in enumerate(overlap.argmax(axis=1)):
        if overlap[row, nearest] < least:
            continue
        counts[row] = not ignored[nearest]
        right[row] = counts[row] and not taken[nearest]
        taken[nearest] = True
    return right, counts


def _coco(
    overlap: Float[np.ndarray, "n m"], ignored: Bool[np.ndarray, " m"], least: float
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Match each detection, best first, with the free object that it overlaps most.

    A detection that finds no free object may lie in a crowd, and then does not count.
    """
    right, counts = np.zeros(len(overlap), bool), np.ones(len(overlap), bool)
    free = ~ignored
    for row, values in enumerate(overlap):
        enough = values >= min(least, 1 - 1e-10)
        near = np.flatnonzero(enough & free)
        if len(near):
            # As in pycocotools, the last of equally near objects is taken.
            best = near[::-1][values[near][::-1].argmax()]
            right[row], free[best] = True, False
        else:
            counts[row] = not (enough & ignored).any()
    return right, counts
