"""The metrics of the literature: top-k, mean per class, 11-point mAP."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Int8

from byol_bnfree.errors import InputError
from byol_bnfree.losses import in_top_k

Metric = Literal["top1", "mean_per_class", "map11"]


def top_k_accuracy(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], k: int = 1
) -> float:
    """Return the share of rows whose label is among the k highest scores.

    `losses.in_top_k` ranks ties and NaN.
    """
    return float(np.mean(in_top_k(scores, labels, k)))


def mean_per_class(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> float:
    """Average the top-1 accuracy of each class over the classes that occur."""
    rows = (labels == c for c in np.unique(labels))
    return float(np.mean([top_k_accuracy(scores[r], labels[r]) for r in rows]))


def eleven_point_map(
    scores: Float[np.ndarray, "n k"], targets: Int8[np.ndarray, "n k"]
) -> float:
    """Return VOC 2007's average precision, averaged over classes.

    The average precision of a class is the mean over recalls 0, 0.1, ..., 1 of the best
    precision at this recall or a higher one.

    Args:
      scores: [n k]; higher means more likely.
      targets: 1 present, -1 absent, 0 ignored (difficult), as in VOC's own files.
        Classes without a present image are left out.

    Raises:
      InputError: if no image has any class.

    References: Everingham et al. 2010, "The Pascal Visual Object Classes (VOC)
      Challenge", section 4.2.
    """
    levels = np.linspace(0, 1, 11) - 1e-9  # 3 of 10 must reach recall 0.3 when rounded
    precisions = []
    for column in np.flatnonzero((targets > 0).any(axis=0)):
        counted = targets[:, column] != 0
        order = np.argsort(-scores[counted, column], kind="stable")
        found = targets[counted, column][order] > 0
        hits = np.cumsum(found)
        precision, recall = hits / np.arange(1, len(hits) + 1), hits / hits[-1]
        best = [precision[recall >= level].max() for level in levels]
        precisions.append(np.mean(best))
    if not precisions:
        raise InputError(
            f"none of {len(targets)} images has an object that counts, so there is no "
            f"average precision; give more images."
        )
    return float(np.mean(precisions))


METRICS: dict[Metric, Callable[[np.ndarray, np.ndarray], float]] = {
    "top1": top_k_accuracy,
    "mean_per_class": mean_per_class,
    "map11": eleven_point_map,
}
