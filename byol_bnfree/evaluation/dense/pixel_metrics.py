"""Metrics of segmentation and depth, from sums over all pixels of a test split."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

RATIO = 1.25  # of predicted and true depth, either way (P1 appendix D.6)


def class_counts(
    predicted: Int[np.ndarray, "*n"],
    mask: Int[np.ndarray, "*n"],
    classes: int,
) -> Int[np.ndarray, "k k"]:
    """Count pixels by true class (row) and predicted class (column).

    Pixels without a class from 0 to k - 1 are left out, such as 255.
    """
    known = (mask >= 0) & (mask < classes)
    pairs = mask[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def segmentation_figures(counts: Int[np.ndarray, "k k"]) -> dict[str, float]:
    """Return the mean IoU over classes, and the share of pixels that are right.

    IoU of a class = true positives / (true + predicted - true positives), over all
    pixels of the split, as in VOC. A class that is neither present nor predicted does
    not count. Without any pixel both figures are NaN.
    """
    right, either = np.diag(counts), counts.sum(0) + counts.sum(1) - np.diag(counts)
    there = either > 0
    ious = right[there] / either[there]
    return {
        "miou": float(ious.mean()) if there.any() else math.nan,
        "pixel_accuracy": float(right.sum() / counts.sum())
        if there.any()
        else math.nan,
    }


class DepthSums(NamedTuple):
    """Sums over the pixels of known depth."""

    pixels: int = 0
    relative: float = 0.0
    squared: float = 0.0
    within: tuple[int, int, int] = (0, 0, 0)

    def plus(
        self, predicted: Float[np.ndarray, "*n"], true: Float[np.ndarray, "*n"]
    ) -> "DepthSums":
        """Add the pixels of arrays, except where the true depth is 0 (unknown)."""
        known = true > 0
        p, t = predicted[known].astype(np.float64), true[known].astype(np.float64)
        # A prediction that is not positive has no ratio; it counts as far off.
        ratio = np.maximum(t / np.maximum(p, 1e-9), np.maximum(p, 1e-9) / t)
        within = (int((ratio < RATIO**n).sum()) for n in (1, 2, 3))
        return DepthSums(
            self.pixels + len(t),
            self.relative + float((np.abs(p - t) / t).sum()),
            self.squared + float(np.square(p - t).sum()),
            tuple(a + b for a, b in zip(self.within, within, strict=True)),
        )

    def figures(self) -> dict[str, float]:
        """Return rel, rms (metres) and the shares of pixels within 1.25^n, n = 1, 2, 3.

        rel = mean |p - t| / t; rms = sqrt(mean (p - t)^2); pct_n = share of pixels with
        max(p / t, t / p) < 1.25^n (P1 appendix D.6). Without any pixel all are NaN.
        """
        n = self.pixels or math.nan
        shares = {f"pct{k + 1}": self.within[k] / n for k in range(3)}
        errors = {"rel": self.relative / n, "rms": float(np.sqrt(self.squared / n))}
        return shares | errors
