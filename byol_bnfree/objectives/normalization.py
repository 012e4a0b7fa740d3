"""Normalizations of projections before a loss compares them (P1 Table 20).

P1 is the BYOL paper (arXiv 2006.07733). They have no parameters. The outputs of the
first three have an average squared length of 1.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.losses import l2_normalize

TINY = 1e-12  # smallest variance; P1 mentions no epsilon


def layer_normalize(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """(x - mean) / deviation over each row, / sqrt(d) (P1 F.6)."""
    return _standardize(x, axis=1)


def batch_normalize(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """(x - mean) / deviation over each column of the batch, / sqrt(d) (P1 F.6).

    Here examples affect each other. The gradient passes through the statistics.
    """
    return _standardize(x, axis=0)


def _standardize(x: Float[Array, "b d"], axis: int) -> Float[Array, "b d"]:
    centred = x - jnp.mean(x, axis, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.maximum(variance, TINY))
    return centred * inverse / x.shape[1] ** 0.5


LOSS_NORMALIZATIONS = {
    "l2": l2_normalize,
    "layernorm": layer_normalize,
    "batchnorm": batch_normalize,
    "none": lambda x: x,
}
