"""The figures of the literature: top-k, mean per class, 11-point mAP."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Int8

from byol_bnfree.losses import in_top_k

Metric = Literal["top1", "mean_per_class", "map11"]


def top_k_accuracy(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], k: int = 1
) -> float:
    """Fraction of rows whose label is among the k highest scores.

    Ties and NaN are ranked by `losses.in_top_k`.
    """
    return float(np.mean(in_top_k(scores, labels, k)))


def mean_per_class(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> float:
    """Mean over the classes that occur of the top-1 accuracy on their images."""
    rows = (labels == c for c in np.unique(labels))
    return float(np.mean([top_k_accuracy(scores[r], labels[r]) for r in rows]))


def eleven_point_map(
    scores: Float[np.ndarray, "n k"], targets: Int8[np.ndarray, "n k"]
) -> float:
    """Mean over classes of VOC 2007's average precision, for several labels an image.

    Average over recalls 0, 0.1, ..., 1 of the best precision at that recall or more.

    Args:
      targets: 1 present, -1 absent, 0 present but too difficult to count, as in VOC's
        own files. A class that no image counts for is left out.

    References: Everingham et al. 2010, "The Pascal Visual Object Classes (VOC)
      Challenge", section 4.2.
    """
    levels = np.linspace(0, 1, 11) - 1e-9  # rounding: 3 of 10 reach recall 0.3
    precisions = []
    for column in np.flatnonzero((targets > 0).any(axis=0)):
        counted = targets[:, column] != 0
        order = np.argsort(-scores[counted, column], kind="stable")
        found = targets[counted, column][order] > 0
        hits = np.cumsum(found)
        precision, recall = hits / np.arange(1, len(hits) + 1), hits / hits[-1]
        best = [precision[recall >= level].max() for level in levels]
        precisions.append(np.mean(best))
    return float(np.mean(precisions))


METRICS: dict[Metric, Callable[[np.ndarray, np.ndarray], float]] = {
    "top1": top_k_accuracy,
    "mean_per_class": mean_per_class,
    "map11": eleven_point_map,
}
