"""Top-k accuracy of scores."""

import numpy as np
from jaxtyping import Float, Int


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
