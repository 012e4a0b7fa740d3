"""BYOL's loss and the probe's: arrays in, arrays out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int


def l2_normalize(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Rows of unit length; a zero row stays zero."""
    squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-12))


def regression_loss(
    prediction: Float[Array, "b k"], target: Float[Array, "b k"]
) -> Float[Array, " b"]:
    """|| q/|q| - z/|z| ||^2 = 2 - 2 cos(q, z) for every example (P1 eq. 2)."""
    difference = l2_normalize(prediction) - l2_normalize(target)
    return jnp.sum(jnp.square(difference), axis=-1)


def byol_loss(
    predictions: tuple[Float[Array, "b k"], Float[Array, "b k"]],
    targets: tuple[Float[Array, "b k"], Float[Array, "b k"]],
) -> Float[Array, " b"]:
    """Both orders summed, not averaged, for every example; in [0, 8] (P1 eq. 2).

    `predictions` are q(z1), q(z2) of the online network, `targets` z'1, z'2. No
    gradient goes into the targets.
    """
    (q1, q2), (z1, z2) = predictions, jax.lax.stop_gradient(targets)
    return regression_loss(q1, z2) + regression_loss(q2, z1)


def probe_loss(
    logits: Float[Array, "b c"], labels: Int[Array, " b"]
) -> Float[Array, " b"]:
    """Cross-entropy for every example; 0 where the label is -1 (none)."""
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.maximum(labels, 0)
    )
    return jnp.where(labels >= 0, losses, 0.0)


def top_k(
    logits: Float[Array, "b c"], labels: Int[Array, " b"], k: int
) -> Float[Array, ""]:
    """Share of the labelled examples whose label is among the k largest logits."""
    labelled = labels >= 0
    found = in_top_k(logits, jnp.maximum(labels, 0), k) & labelled
    return jnp.sum(found) / jnp.maximum(jnp.sum(labelled), 1)


def in_top_k(
    scores: Float[Array | np.ndarray, "b c"],
    labels: Int[Array | np.ndarray, " b"],
    k: int,
) -> Bool[Array | np.ndarray, " b"]:
    """Whether each label is among the k highest scores of its row.

    Equal scores rank by class, so that a constant output is at chance. NaN ranks above
    all, and a label whose score is NaN is never found. NumPy arrays stay NumPy's.
    """
    xp = jnp if isinstance(scores, jax.Array) else np
    own = xp.take_along_axis(scores, labels[:, None], axis=1)
    before = xp.arange(scores.shape[1])[None, :] < labels[:, None]
    higher = (scores > own) | xp.isnan(scores) | ((scores == own) & before)
    return (xp.sum(higher, axis=1) < k) & ~xp.isnan(own[:, 0])
