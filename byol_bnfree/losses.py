"""The losses of BYOL and of the linear probe. They take and return arrays.

P1 is the BYOL paper (arXiv 2006.07733).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from byol_bnfree.errors import InputError


def l2_normalize(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Scale each row to length 1. Rows shorter than 1e-6 are divided by 1e-6.

    So a zero row stays zero, and short rows end shorter than 1, as in DeepMind's code.
    A row whose squares leave the range of the floats becomes NaN: it would end as 0,
    and two such rows would have no distance.

    The result is float32, also for float16 and bfloat16, or float64 for float64.
    Squares leave the range of float16.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    squared = jnp.where(jnp.isinf(squared), jnp.nan, squared)
    return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-12))


def regression_loss(
    prediction: Float[Array, "b k"], target: Float[Array, "b k"]
) -> Float[Array, " b"]:
    """|| q/|q| - z/|z| ||^2 = 2 - 2 cos(q, z) per example, in [0, 4] (P1 eq. 2).

    Rows shorter than 1e-6 are divided by 1e-6. Rows whose squares overflow become NaN.

    Args:
      prediction: q, of any floating dtype.
      target: z, of the same shape.

    Returns:
      float32, also for float16 and bfloat16; float64 if an argument is.

    Raises:
      InputError: if the arguments are no arrays of one shape with two axes or more, or
        do not hold real floats.
    """
    for name, array in (("prediction", prediction), ("target", target)):
        if not hasattr(array, "shape"):
            raise InputError(
                f"the {name} is of type {type(array).__name__}; give an array [b k]."
            )
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise InputError(f"the {name} is {array.dtype}; give an array of floats.")
    if prediction.shape != target.shape or len(target.shape) < 2:
        raise InputError(
            f"the prediction has shape {prediction.shape} and the target has "
            f"{target.shape}; give two arrays [b k] of the same shape."
        )
    difference = l2_normalize(prediction) - l2_normalize(target)
    return jnp.sum(jnp.square(difference), axis=-1)


def byol_loss(
    predictions: tuple[Float[Array, "b k"], Float[Array, "b k"]],
    targets: tuple[Float[Array, "b k"], Float[Array, "b k"]],
) -> Float[Array, " b"]:
    """Return the symmetric loss of each example, in [0, 8] (P1 eq. 2).

    It is the sum over both orders of the views, not their mean. `predictions` are the
    online network's q(z1) and q(z2); `targets` are the target network's z'1 and z'2. No
    gradient flows into the targets. See `regression_loss` for dtypes and errors.

    Raises:
      InputError: for anything but two predictions and two targets.
    """
    for name, views in (("predictions", predictions), ("targets", targets)):
        if not isinstance(views, tuple | list) or len(views) != 2:
            several = isinstance(views, tuple | list)
            found = f"{len(views)} arrays" if several else type(views).__name__
            raise InputError(
                f"{name} are {found}; give a tuple of two arrays [b k], one for each "
                f"view."
            )
    (q1, q2), (z1, z2) = predictions, jax.lax.stop_gradient(targets)
    return regression_loss(q1, z2) + regression_loss(q2, z1)


def probe_loss(
    logits: Float[Array, "b c"], labels: Int[Array, " b"]
) -> Float[Array, " b"]:
    """Return the cross-entropy of each example; 0 if its label is -1 (no label).

    Labels are 0 to c - 1, or -1. A label from c on gives NaN.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.maximum(labels, 0)
    )
    return jnp.where(labels >= 0, losses, 0.0)


def top_k(
    logits: Float[Array, "b c"], labels: Int[Array, " b"], k: int
) -> Float[Array, ""]:
    """Return the share of labelled examples whose label is among the k top logits."""
    labelled = labels >= 0
    found = in_top_k(logits, jnp.maximum(labels, 0), k) & labelled
    return jnp.sum(found) / jnp.maximum(jnp.sum(labelled), 1)


def in_top_k(
    scores: Float[Array | np.ndarray, "b c"],
    labels: Int[Array | np.ndarray, " b"],
    k: int,
) -> Bool[Array | np.ndarray, " b"]:
    """Return True for each label among the k highest scores of its row.

    Ties rank by class index, so a constant output scores at chance. NaN ranks above
    every number, and a label whose own score is NaN is never found. NumPy arrays give a
    NumPy result.
    """
    xp = jnp if isinstance(scores, jax.Array) else np
    own = xp.take_along_axis(scores, labels[:, None], axis=1)
    before = xp.arange(scores.shape[1])[None, :] < labels[:, None]
    higher = (scores > own) | xp.isnan(scores) | ((scores == own) & before)
    return (xp.sum(higher, axis=1) < k) & ~xp.isnan(own[:, 0])
