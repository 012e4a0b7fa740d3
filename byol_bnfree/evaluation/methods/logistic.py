"""Logistic regression on cached features: one class a row, or several.

BYOL's protocol for other data sets (https://arxiv.org/abs/2006.07733, appendix D.2):
45 L2 strengths, chosen on held-out training images, then refitted on all of them.
Features are standardized by the training mean and deviation (our choice: the paper
does not say; some representations vary by 1e-3 of their mean).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Int8

from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.images.subset import hold_out
from byol_bnfree.evaluation.kept.fitted import Fitted
from byol_bnfree.evaluation.methods.logistic_solver import logits, minimum, rotate
from byol_bnfree.evaluation.methods.metrics import top_k_accuracy

# Of the sum of cross-entropies, as scikit-learn's 1 / C (P1 does not say sum or mean).
STRENGTHS = tuple(float(x) for x in np.geomspace(1e5, 1e-6, 45))
QUICK_PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Of the mean cross-entropy: a short list, for the figure that every run ends with."""


class Classifier(NamedTuple):
    """A fitted linear classifier with the standardization of its inputs."""

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    kernel: Float[np.ndarray, "d k"]
    bias: Float[np.ndarray, " k"]

    def scores(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """Logits."""
        kernel, bias, _ = self.fitted()
        return features.astype(np.float32) @ kernel + bias

    def fitted(self) -> Fitted:
        """The same classifier of features as they are, not standardized."""
        kernel = self.kernel / self.scale[:, None]
        return Fitted(kernel, self.bias - self.mean @ kernel)


class Fit(NamedTuple):
    """A classifier, and the strength that it was chosen for."""

    classifier: Classifier
    strength: float
    validation: float
    """Score on the held-out rows, of which the strength had the best."""


def logistic_evaluation(
    train_features: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test_features: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, " m"],
    *,
    num_classes: int,
    seed: int = 0,
    strengths: tuple[float, ...] = STRENGTHS,
) -> dict[str, float]:
    """Fit on train, report on test: fractions `top1`, `top5`; the chosen `strength`.

    With fewer than five classes `top5` counts all of them.

    Raises: InputError with fewer than 2 training features.
    """
    fit = fit_logistic(
        train_features, train_labels, num_classes, seed=seed, strengths=strengths
    )
    scores = fit.classifier.scores(test_features)
    top1, top5 = (top_k_accuracy(scores, test_labels, k) for k in (1, 5))
    return {"top1": top1, "top5": top5, "strength": fit.strength}


def fit_logistic(
    features: Float[np.ndarray, "n d"],
    targets: Int[np.ndarray, " n"] | Int8[np.ndarray, "n k"],
    num_classes: int,
    *,
    seed: int = 0,
    strengths: tuple[float, ...] = STRENGTHS,
    score: Callable[[np.ndarray, np.ndarray], float] = top_k_accuracy,
) -> Fit:
    """The classifier of the strength with the best score on a held-out tenth.

    The tenth is random, fixed by seed; among equals the strongest is taken and
    refitted on everything. Minimized is sum(cross-entropy) + strength / 2 |kernel|^2;
    the bias is free.

    Args:
      targets: a class a row, fitted by softmax; or for every class 1 (present), -1
        (absent) or 0 (does not count), fitted by one sigmoid for each.
      score: of logits and targets, higher is better.

    Raises: InputError with fewer than 2 features.
    """
    if len(targets) < 2:
        raise InputError(
            f"The linear classifier was given {len(targets)} training features; "
            f"it needs at least 2."
        )
    mean, scale = standardizer(features)
    problem, axes = rotate((features - mean) / scale, targets)
    held_out = hold_out(len(targets), seed)
    # Held-out rows get weight 0 instead of being cut: one shape, one compilation.
    part = problem._replace(weights=jnp.asarray(~held_out, jnp.float32))
    params = jnp.zeros((features.shape[1] + 1, num_classes))
    fits = []
    # Strongest first: each fit starts from the one before it.
    for strength in sorted(strengths, reverse=True):
        params = minimum(part, params, strength)
        scores = np.asarray(logits(params, problem.features))[held_out]
        fits.append((score(scores, targets[held_out]), strength, params))
    best, strength, params = max(fits, key=lambda fit: fit[0])
    params = np.asarray(minimum(problem, params, strength))
    return Fit(Classifier(mean, scale, axes @ params[:-1], params[-1]), strength, best)


def standardizer(
    features: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Mean and deviation of each feature; 1 where it varies by rounding alone."""
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    variance = np.square(features - mean).mean(axis=0, dtype=np.float64)
    std = np.sqrt(variance).astype(np.float32)
    return mean, np.where(std > 1e-6 * np.abs(mean), std, np.float32(1))
