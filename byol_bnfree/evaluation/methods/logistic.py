"""Logistic regression on stored features, with one class per row or several.

This is BYOL's protocol for other data sets (P1, https://arxiv.org/abs/2006.07733,
appendix D.2): 45 L2 strengths are compared on held-out training images, and the best is
fitted again on all. We standardize features by the mean and deviation of the training
features. P1 does not say so, but some representations vary by 1e-3 of their mean only.
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
from byol_bnfree.evaluation.outcome import top_figures

# Penalties of the sum of cross-entropies, as scikit-learn's 1 / C (P1 does not say if
# it means the sum or the mean).
STRENGTHS = tuple(float(x) for x in np.geomspace(1e5, 1e-6, 45))
QUICK_PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Penalties of the mean cross-entropy: a short list for the accuracy after a run."""


class Classifier(NamedTuple):
    """A fitted linear classifier, with the standardization of its inputs."""

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    kernel: Float[np.ndarray, "d k"]
    bias: Float[np.ndarray, " k"]

    def scores(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """Return the logits of features [n d]."""
        kernel, bias, _ = self.fitted()
        return features.astype(np.float32) @ kernel + bias

    def fitted(self) -> Fitted:
        """Return the same classifier for features that are not standardized."""
        kernel = self.kernel / self.scale[:, None]
        return Fitted(kernel, self.bias - self.mean @ kernel)


class Fit(NamedTuple):
    """A classifier, and the L2 strength that was chosen for it."""

    classifier: Classifier
    strength: float
    validation: float
    """Score on the held-out rows; the chosen strength has the best one."""


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
    """Fit on the training features and report on the test features.

    Returns:
      The `top_figures` of the test features, and the chosen `strength`.

    Raises:
      InputError: with fewer than 2 training features.
    """
    fit = fit_logistic(
        train_features, train_labels, num_classes, seed=seed, strengths=strengths
    )
    scores = fit.classifier.scores(test_features)
    return {**top_figures(scores, test_labels), "strength": fit.strength}


def fit_logistic(
    features: Float[np.ndarray, "n d"],
    targets: Int[np.ndarray, " n"] | Int8[np.ndarray, "n k"],
    num_classes: int,
    *,
    seed: int = 0,
    strengths: tuple[float, ...] = STRENGTHS,
    score: Callable[[np.ndarray, np.ndarray], float] = top_k_accuracy,
) -> Fit:
    """Fit with the strength that scores best on a held-out tenth.

    The seed draws the tenth. Among equal scores the strongest penalty wins. It is then
    fitted again on all rows. The objective is sum(cross-entropy) + strength / 2
    |kernel|^2, without a penalty of the bias.

    Args:
      features: [n d].
      targets: one class per row, fitted by softmax; or for every class 1 (present), -1
        (absent) or 0 (ignored), fitted by a sigmoid per class.
      num_classes: number of classes k.
      seed: draws the held-out tenth.
      strengths: the L2 penalties to compare.
      score: function of logits and targets; higher is better.

    Raises:
      InputError: with fewer than 2 features.
    """
    if len(targets) < 2:
        raise InputError(
            f"The linear classifier was given {len(targets)} training features; "
            f"it needs at least 2."
        )
    mean, scale = standardizer(features)
    problem, axes = rotate((features - mean) / scale, targets)
    held_out = hold_out(len(targets), seed)
    # Held-out rows get weight 0 and stay in the arrays: one shape compiles once.
    part = problem._replace(weights=jnp.asarray(~held_out, jnp.float32))
    params = jnp.zeros((features.shape[1] + 1, num_classes))
    fits = []
    # Strongest penalty first: each fit starts from the solution of the one before.
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
    """Return mean and deviation of each feature; 1 if it varies by rounding only."""
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    variance = np.square(features - mean).mean(axis=0, dtype=np.float64)
    std = np.sqrt(variance).astype(np.float32)
    return mean, np.where(std > 1e-6 * np.abs(mean), std, np.float32(1))
