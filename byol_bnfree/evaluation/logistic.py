"""A linear classifier on cached features: multinomial logistic regression by L-BFGS.

The protocol of BYOL's transfer experiments (https://arxiv.org/abs/2006.07733,
appendix D.2) with a short list of L2 strengths: chosen on a tenth of the training
features, refitted on all of them, reported on the test features.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.optimize import minimize

from byol_bnfree.errors import InputError

# Of the mean cross-entropy; sklearn's C is 1 / (n * l2). Strongest first: each fit
# starts from the one before it, and strong ones converge in a few iterations.
L2_VALUES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


def linear_accuracy(
    train_features: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test_features: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, " m"],
    *,
    num_classes: int,
    seed: int = 0,
    l2_values: tuple[float, ...] = L2_VALUES,
) -> dict[str, float]:
    """Fit on train, report on test: fractions `top1` and `top5`, and the chosen `l2`.

    Features are standardized by the training mean and deviation. `l2` is chosen by
    top-1 on a random tenth of train (fixed by seed), the stronger one of equals. With
    fewer than five classes `top5` counts all of them.

    Raises: InputError with fewer than 2 training features.
    """
    n = len(train_labels)
    if n < 2:
        raise InputError(
            f"The linear classifier was given {n} training features; "
            f"it needs at least 2."
        )
    mean, scale = standardizer(train_features)
    train = jnp.asarray((train_features - mean) / scale)
    labels = jnp.asarray(train_labels, jnp.int32)

    held_out = hold_out(n, seed)
    # Held-out rows get weight 0 instead of being cut: one shape, one compilation.
    weights = jnp.asarray(~held_out, jnp.float32)
    params = jnp.zeros((train.shape[1] + 1, num_classes))
    fits = []
    for l2 in sorted(l2_values, reverse=True):
        params = fit_logistic(train, labels, params, l2=l2, weights=weights)
        scores = np.asarray(logits(params, train))[held_out]
        fits.append((top_k_accuracy(scores, train_labels[held_out], 1), l2, params))
    _, l2, params = max(fits, key=lambda fit: fit[0])

    params = fit_logistic(train, labels, params, l2=l2)
    test = jnp.asarray((test_features - mean) / scale)
    scores = np.asarray(logits(params, test))
    top1, top5 = (top_k_accuracy(scores, test_labels, k) for k in (1, 5))
    return {"top1": top1, "top5": top5, "l2": l2}


def hold_out(n: int, seed: int) -> Bool[np.ndarray, " n"]:
    """A random tenth of n rows, at least one, fixed by seed."""
    chosen = np.random.default_rng(seed).permutation(n)[: max(1, n // 10)]
    return np.isin(np.arange(n), chosen)


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


def standardizer(
    features: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Mean and deviation of each feature; 1 where it varies by rounding alone."""
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    variance = np.square(features - mean).mean(axis=0, dtype=np.float64)
    std = np.sqrt(variance).astype(np.float32)
    return mean, np.where(std > 1e-6 * np.abs(mean), std, np.float32(1))


def fit_logistic(
    features: Float[Array, "n d"],
    labels: Int[Array, " n"],
    start: Float[Array, "d1 k"],
    *,
    l2: float,
    weights: Float[Array, " n"] | None = None,
    max_iterations: int = 200,
) -> Float[Array, "d1 k"]:
    """Minimize (weighted) mean cross-entropy + l2 / 2 * |kernel|^2, from `start`.

    Parameters are the kernel with the bias, which is not decayed, as its last row.
    """
    weights = jnp.ones(len(labels)) if weights is None else weights

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        params = jnp.asarray(flat.reshape(start.shape), jnp.float32)
        value, gradient = _value_and_grad(params, features, (labels, weights), l2)
        return float(value), np.asarray(gradient, np.float64).ravel()

    # float32 resolves the loss to about 1e-7 of itself: asking for less than that
    # ends in failing line searches.
    found = minimize(
        objective,
        np.asarray(start, np.float64).ravel(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": max_iterations, "ftol": 1e-7, "gtol": 1e-5, "maxcor": 10},
    )
    return jnp.asarray(found.x.reshape(start.shape), jnp.float32)


@jax.jit
def logits(
    params: Float[Array, "d1 k"], features: Float[Array, "n d"]
) -> Float[Array, "n k"]:
    kernel, bias = params[:-1], params[-1]
    # HIGHEST: TF32 or bfloat16 products are too coarse for line searches.
    product = jnp.matmul(features, kernel, precision=jax.lax.Precision.HIGHEST)
    return product + bias[None, :]


@jax.jit
@jax.value_and_grad
def _value_and_grad(
    params: Float[Array, "d1 k"],
    features: Float[Array, "n d"],
    targets: tuple[Int[Array, " n"], Float[Array, " n"]],
    l2: Float[Array, ""] | float,
) -> Float[Array, ""]:
    labels, weights = targets
    scores = logits(params, features)
    # A mask instead of indexing: its gradient is not a scatter.
    own = labels[:, None] == jnp.arange(scores.shape[1])[None, :]
    losses = jax.nn.logsumexp(scores, axis=1) - jnp.where(own, scores, 0).sum(axis=1)
    decay = 0.5 * l2 * jnp.sum(jnp.square(params[:-1]))
    return jnp.sum(weights * losses) / jnp.sum(weights) + decay
