"""Barlow Twins: the views' features agree and are not redundant (arXiv 2103.03230)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.config import BarlowTwinsConfig
from byol_bnfree.objectives.normalization import batch_normalize
from byol_bnfree.objectives.objective import Objective, Passed


def barlow_twins(config: BarlowTwinsConfig) -> Objective:
    """sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2.

    C is the correlation of the features of two projections over the global batch. There
    is no predictor, no target and no negative. Since C belongs to the whole batch, all
    examples get the same loss.

    References: Zbontar et al. 2021, https://arxiv.org/abs/2103.03230, equations 1, 2.
    """

    def loss(passed: Passed) -> Float[Array, " b"]:
        """Return the loss of each example; at least 0."""
        a, b = map(batch_normalize, passed.projections)
        examples, width = a.shape
        correlation = _correlation(a, b) * width / examples
        own = jnp.diag(correlation)
        others = jnp.sum(jnp.square(correlation)) - jnp.sum(jnp.square(own))
        total = jnp.sum(jnp.square(1 - own)) + config.redundancy * others
        return jnp.broadcast_to(total, (examples,))

    return Objective(loss, target="none")


def _correlation(a: Float[Array, "b d"], b: Float[Array, "b d"]) -> Float[Array, "d d"]:
    return jnp.matmul(a.T, b, precision=jax.lax.Precision.HIGHEST)
