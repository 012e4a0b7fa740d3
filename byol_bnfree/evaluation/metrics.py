"""The figures of the literature: top-k, mean per class, 11-point mAP."""

import numpy as np
from jaxtyping import Bool, Float, Int


def top_k_accuracy(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], k: int
) -> float:
    """Fraction of rows whose label is among the k highest scores.

    Equal scores rank by class index (so a constant output scores chance, not 1), and
    a label whose score is NaN is never found.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(scores.shape[1])[None, :] < labels[:, None]
    rank = np.sum((scores > own) | ((scores == own) & before), axis=1)
    return float(np.mean((rank < k) & ~np.isnan(own[:, 0])))


def mean_per_class(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> float:
    """Mean over the classes that occur of the top-1 accuracy on their images."""
    classes = np.unique(labels)
    shares = [
        top_k_accuracy(scores[labels == c], labels[labels == c], 1) for c in classes
    ]
    return float(np.mean(shares))


def eleven_point_map(
    scores: Float[np.ndarray, "n k"], present: Bool[np.ndarray, "n k"]
) -> float:
    """Mean over classes of VOC 2007's average precision, for several labels an image.

    Average over recalls 0, 0.1, ..., 1 of the best precision at that recall or more
    (Everingham et al. 2010, section 4.2). Classes without an image do not count.
    """
    points = []
    for column in np.flatnonzero(present.any(axis=0)):
        found = present[np.argsort(-scores[:, column], kind="stable"), column]
        hits = np.cumsum(found)
        precision, recall = hits / np.arange(1, len(hits) + 1), hits / hits[-1]
        levels = np.linspace(0, 1, 11) - 1e-9  # 3/10 is reached at the third of ten
        points.append(np.mean([precision[recall >= level].max() for level in levels]))
    return float(np.mean(points))
