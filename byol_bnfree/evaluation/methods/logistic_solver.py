"""Minimizes L2-penalized logistic losses with L-BFGS in well-scaled coordinates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int8
from scipy.optimize import minimize


class Problem(NamedTuple):
    """Features along their principal axes. The rotation keeps |kernel|^2.

    `targets` have one class per row, fitted by softmax, or several, fitted by a sigmoid
    per class: 1 present, -1 absent, 0 ignored.
    """

    features: Float[Array, "n d"]
    transposed: Float[Array, "d n"]  # makes the gradient's product three times faster
    variances: Float[np.ndarray, " d"]
    targets: Int[Array, " n"] | Int8[Array, "n k"]
    weights: Float[Array, " n"]


def rotate(
    features: Float[np.ndarray, "n d"],
    targets: Int[np.ndarray, " n"] | Int8[np.ndarray, "n k"],
) -> tuple[Problem, Float[np.ndarray, "d d"]]:
    """Return the problem along principal axes, and these axes as columns."""
    features = features.astype(np.float32)
    variances, axes = np.linalg.eigh((features.T @ features) / np.float32(len(targets)))
    rotated = features @ axes
    problem = Problem(
        features=jnp.asarray(rotated),
        transposed=jnp.asarray(np.ascontiguousarray(rotated.T)),
        variances=np.maximum(variances, 0),
        targets=jnp.asarray(targets, jnp.int32 if targets.ndim == 1 else jnp.int8),
        weights=jnp.ones(len(targets), jnp.float32),
    )
    return problem, axes


def minimum(
    problem: Problem, start: Float[Array, "d1 k"], strength: float
) -> Float[Array, "d1 k"]:
    """Find the best kernel along the axes, from `start`. The bias is its last row.

    Along an axis the loss has the curvature variance * (curvature of softmax or
    sigmoid) + penalty. L-BFGS works on rows that are divided by the root of this
    curvature. All curvatures are then near 1, and it needs a tenth of the iterations.
    """
    classes = start.shape[1]
    l2 = strength / float(problem.weights.sum())  # penalty of the mean cross-entropy
    # Curvature of the loss along one logit if all classes are equally likely: p (1 -
    # p), with p = 1/2 for a sigmoid. For softmax with k classes it is (k - 1) / k^2.
    several = problem.targets.ndim == 2
    bend = 1 / 4 if several else (classes - 1) / classes**2
    curvature = np.append(bend * problem.variances + l2, bend)[:, None]
    unit = 1 / np.sqrt(np.maximum(curvature, 1e-12))

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        params = jnp.asarray(flat.reshape(start.shape) * unit, jnp.float32)
        value, gradient = _value_and_grad(params, problem, l2)
        return float(value), (np.asarray(gradient, np.float64) * unit).ravel()

    # float32 resolves the loss to about 1e-7 of its value. A smaller tolerance makes
    # line searches fail.
    found = minimize(
        objective,
        (np.asarray(start, np.float64) / unit).ravel(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 200, "ftol": 1e-7, "gtol": 1e-6, "maxcor": 10},
    )
    return jnp.asarray(found.x.reshape(start.shape) * unit, jnp.float32)


@jax.jit
def logits(
    params: Float[Array, "d1 k"], features: Float[Array, "n d"]
) -> Float[Array, "n k"]:
    """Return logits for parameters as `minimum` returns them."""
    kernel, bias = params[:-1], params[-1]
    # TF32 and bfloat16 products are too coarse for line searches, hence HIGHEST.
    product = jnp.matmul(features, kernel, precision=jax.lax.Precision.HIGHEST)
    return product + bias[None, :]


@jax.jit
def _value_and_grad(
    params: Float[Array, "d1 k"], problem: Problem, l2: Float[Array, ""] | float
) -> tuple[Float[Array, ""], Float[Array, "d1 k"]]:
    """Return mean cross-entropy + l2 / 2 |kernel|^2, and its gradient."""
    several = problem.targets.ndim == 2
    cross_entropy = _sigmoid_cross_entropy if several else _softmax_cross_entropy
    losses, residual = cross_entropy(logits(params, problem.features), problem.targets)
    share = (problem.weights / problem.weights.sum())[:, None]
    residual = share * residual
    product = jnp.matmul(
        problem.transposed, residual, precision=jax.lax.Precision.HIGHEST
    )
    kernel = params[:-1]
    gradient = jnp.concatenate([product + l2 * kernel, residual.sum(0)[None, :]])
    return jnp.sum(share * losses) + 0.5 * l2 * jnp.sum(jnp.square(kernel)), gradient


def _softmax_cross_entropy(
    scores: Float[Array, "n k"], labels: Int[Array, " n"]
) -> tuple[Float[Array, "n k"], Float[Array, "n k"]]:
    """Return the terms of each row's loss, and the derivative by the scores."""
    own = labels[:, None] == jnp.arange(scores.shape[1])[None, :]
    log_p = jax.nn.log_softmax(scores, axis=1)
    return -jnp.where(own, log_p, 0), jnp.exp(log_p) - own


def _sigmoid_cross_entropy(
    scores: Float[Array, "n k"], signs: Int8[Array, "n k"]
) -> tuple[Float[Array, "n k"], Float[Array, "n k"]]:
    """Return the losses of one binary classifier per class, and the derivative."""
    counted = jnp.abs(signs)
    losses = jax.nn.softplus(-signs * scores)
    return counted * losses, counted * (jax.nn.sigmoid(scores) - (signs > 0))
