"""The losses of segmentation and depth, per pixel."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

BEND = 0.2  # of the reverse Huber loss, as a share of the largest error


def cross_entropy(
    scores: Float[Array, "b h w k"], mask: Int[Array, "b h w"]
) -> Float[Array, ""]:
    """Return the mean cross-entropy over all pixels with a class below k.

    The classes 255 (ignored) and above are left out. It is 0 without such a pixel.
    """
    known = (mask >= 0) & (mask < scores.shape[-1])
    labels = jnp.where(known, mask, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
    return jnp.sum(losses * known) / jnp.maximum(known.sum(), 1)


def reverse_huber(
    predicted: Float[Array, "b h w"], true: Float[Array, "b h w"]
) -> Float[Array, ""]:
    """Return the mean of |e| for |e| <= c and (e^2 + c^2) / 2c beyond, e = p - t.

    c is a fifth of the largest |e| of the batch (arXiv 1606.00373, equation 3). It is a
    constant for the gradient. Otherwise the loss could fall as the largest error grows.
    Pixels of depth 0 are unknown and left out. It is 0 without a known pixel.
    """
    known = true > 0
    error = jnp.where(known, jnp.abs(predicted - true), 0)
    bend = jax.lax.stop_gradient(jnp.maximum(BEND * error.max(), 1e-6))
    large = (jnp.square(error) + jnp.square(bend)) / (2 * bend)
    losses = jnp.where(error <= bend, error, large)
    return jnp.sum(losses * known) / jnp.maximum(known.sum(), 1)
