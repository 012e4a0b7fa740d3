"""Multinomial logistic regression on cached features, by L-BFGS.

BYOL's protocol for other data sets (https://arxiv.org/abs/2006.07733, appendix D.2):
45 L2 strengths, chosen on held-out training images, then refitted on all of them.
Features are standardized by the training mean and deviation (our choice: the paper
does not say; some representations vary by 1e-3 of their mean).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import minimize

from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.metrics import top_k_accuracy
from byol_bnfree.evaluation.subset import hold_out

# Of the sum of cross-entropies, as scikit-learn's 1 / C (P1 does not say sum or mean).
STRENGTHS = tuple(float(x) for x in np.geomspace(1e5, 1e-6, 45))


class Classifier(NamedTuple):
    """A fitted linear classifier with the standardization of its inputs."""

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    kernel: Float[np.ndarray, "d k"]
    bias: Float[np.ndarray, " k"]

    def scores(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """Logits."""
        kernel = self.kernel / self.scale[:, None]
        return features.astype(np.float32) @ kernel + (self.bias - self.mean @ kernel)


class Fit(NamedTuple):
    """A classifier, and the strength that it was chosen for."""

    classifier: Classifier
    strength: float
    validation_top1: float


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
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    *,
    seed: int = 0,
    strengths: tuple[float, ...] = STRENGTHS,
) -> Fit:
    """The classifier of the strength with the best top-1 on a held-out tenth.

    The tenth is random, fixed by seed; among equals the strongest is taken and
    refitted on everything. Minimized is sum(cross-entropy) + strength / 2 |kernel|^2;
    the bias is free.

    Raises: InputError with fewer than 2 features.
    """
    if len(labels) < 2:
        raise InputError(
            f"The linear classifier was given {len(labels)} training features; "
            f"it needs at least 2."
        )
    mean, scale = standardizer(features)
    problem, axes = _rotate((features - mean) / scale, labels)
    held_out = hold_out(len(labels), seed)
    # Held-out rows get weight 0 instead of being cut: one shape, one compilation.
    part = problem._replace(weights=jnp.asarray(~held_out, jnp.float32))
    params = jnp.zeros((features.shape[1] + 1, num_classes))
    fits = []
    # Strongest first: each fit starts from the one before it.
    for strength in sorted(strengths, reverse=True):
        params = _minimize(part, params, strength)
        scores = np.asarray(_logits(params, problem.features))[held_out]
        fits.append((top_k_accuracy(scores, labels[held_out], 1), strength, params))
    top1, strength, params = max(fits, key=lambda fit: fit[0])
    params = np.asarray(_minimize(problem, params, strength))
    return Fit(Classifier(mean, scale, axes @ params[:-1], params[-1]), strength, top1)


def standardizer(
    features: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Mean and deviation of each feature; 1 where it varies by rounding alone."""
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    variance = np.square(features - mean).mean(axis=0, dtype=np.float64)
    std = np.sqrt(variance).astype(np.float32)
    return mean, np.where(std > 1e-6 * np.abs(mean), std, np.float32(1))


class _Problem(NamedTuple):
    """Features along their principal axes, which leaves |kernel|^2 as it is."""

    features: Float[Array, "n d"]
    transposed: Float[Array, "d n"]  # the gradient's product is three times faster so
    variances: Float[np.ndarray, " d"]
    labels: Int[Array, " n"]
    weights: Float[Array, " n"]


def _rotate(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]
) -> tuple[_Problem, Float[np.ndarray, "d d"]]:
    """The problem along principal axes, and these axes (columns)."""
    features = features.astype(np.float32)
    variances, axes = np.linalg.eigh((features.T @ features) / np.float32(len(labels)))
    rotated = features @ axes
    problem = _Problem(
        features=jnp.asarray(rotated),
        transposed=jnp.asarray(np.ascontiguousarray(rotated.T)),
        variances=np.maximum(variances, 0),
        labels=jnp.asarray(labels, jnp.int32),
        weights=jnp.ones(len(labels), jnp.float32),
    )
    return problem, axes


def _minimize(
    problem: _Problem, start: Float[Array, "d1 k"], strength: float
) -> Float[Array, "d1 k"]:
    """Best kernel, along the axes, with the bias as its last row, from `start`.

    Along its axes each row of the kernel has a curvature of its own, variance times
    that of the softmax plus the penalty. L-BFGS works on rows divided by its root,
    where all curvatures are near 1: it needs a tenth of the iterations.
    """
    classes = start.shape[1]
    l2 = strength / float(problem.weights.sum())  # of the mean cross-entropy
    softmax = (classes - 1) / classes**2  # at equal probabilities
    curvature = np.append(softmax * problem.variances + l2, softmax)[:, None]
    unit = 1 / np.sqrt(np.maximum(curvature, 1e-12))

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        params = jnp.asarray(flat.reshape(start.shape) * unit, jnp.float32)
        value, gradient = _value_and_grad(params, problem, l2)
        return float(value), (np.asarray(gradient, np.float64) * unit).ravel()

    # float32 resolves the loss to about 1e-7 of itself: asking for less than that
    # ends in failing line searches.
    found = minimize(
        objective,
        (np.asarray(start, np.float64) / unit).ravel(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 200, "ftol": 1e-7, "gtol": 1e-6, "maxcor": 10},
    )
    return jnp.asarray(found.x.reshape(start.shape) * unit, jnp.float32)


@jax.jit
def _logits(
    params: Float[Array, "d1 k"], features: Float[Array, "n d"]
) -> Float[Array, "n k"]:
    kernel, bias = params[:-1], params[-1]
    # HIGHEST: TF32 or bfloat16 products are too coarse for line searches.
    product = jnp.matmul(features, kernel, precision=jax.lax.Precision.HIGHEST)
    return product + bias[None, :]


@jax.jit
def _value_and_grad(
    params: Float[Array, "d1 k"], problem: _Problem, l2: Float[Array, ""] | float
) -> tuple[Float[Array, ""], Float[Array, "d1 k"]]:
    """Mean cross-entropy + l2 / 2 |kernel|^2, and its gradient."""
    scores = _logits(params, problem.features)
    own = problem.labels[:, None] == jnp.arange(scores.shape[1])[None, :]
    share = (problem.weights / problem.weights.sum())[:, None]
    log_p = jax.nn.log_softmax(scores, axis=1)
    residual = share * (jnp.exp(log_p) - own)
    product = jnp.matmul(
        problem.transposed, residual, precision=jax.lax.Precision.HIGHEST
    )
    kernel = params[:-1]
    loss = -jnp.sum(share * jnp.where(own, log_p, 0))
    gradient = jnp.concatenate([product + l2 * kernel, residual.sum(0)[None, :]])
    return loss + 0.5 * l2 * jnp.sum(jnp.square(kernel)), gradient
