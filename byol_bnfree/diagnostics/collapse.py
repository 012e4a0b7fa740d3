"""Collapse measures of a batch: pure functions of arrays that work under jit.

`verdict.py` says which values are healthy.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from byol_bnfree.losses import l2_normalize


def collapse_measures(
    representation: Float[Array, "b d"],
    projection1: Float[Array, "b k"],
    projection2: Float[Array, "b k"],
) -> dict[str, Float32[Array, ""]]:
    """Measure the spread of representations, and cosines of the views' projections.

    - `feature_std`: standard deviation over the batch of l2-normalized representations,
      averaged over dimensions, times sqrt(d). It is 1 if they spread evenly over the
      sphere and 0 if they are one point. A zero representation stays at the origin.
    - `positive_cosine`: mean over i of cos(projection1[i], projection2[i]).
    - `negative_cosine`: mean over i != j of cos(projection1[i], projection2[j]); exact.

    The cost is O(b (d + k)). With one image `feature_std` and `negative_cosine` are
    NaN.
    """
    b, d = representation.shape
    unit, unit1, unit2 = (
        l2_normalize(x.astype(jnp.float32))
        for x in (representation, projection1, projection2)
    )
    positive = jnp.mean(jnp.sum(unit1 * unit2, axis=1))
    # The mean over all pairs is a product of means. The pairs i = j are subtracted.
    pairs = jnp.sum(unit1.mean(axis=0) * unit2.mean(axis=0))
    std = jnp.mean(jnp.std(unit, axis=0)) * d**0.5
    return {
        "feature_std": std if b > 1 else jnp.full_like(std, jnp.nan),
        "positive_cosine": positive,
        "negative_cosine": (pairs * b - positive) / jnp.float32(b - 1),
    }


def effective_rank(
    representation: Float[Array, "b d"], max_rows: int = 256
) -> Float32[Array, ""]:
    """Return exp(entropy of the singular values, scaled to sum 1); in [1, min(b, d)].

    Roughly RankMe: the matrix is not centred. Only the first `max_rows` rows are used,
    so compare values with equal numbers of rows only. The singular values come from
    the products of the rows in float32. So those below sqrt(n eps) of the largest (0.55
    % with 256 rows) count as 0, and with a large common mean the rank is below
    RankMe's: 1 instead of 20 if the rows differ by 5 % of their mean. A zero matrix has
    rank 0; NaN gives NaN.

    References: Roy & Vetterli 2007, "The effective rank: a measure of effective
    dimensionality"; Garrido et al. 2023 (RankMe), https://arxiv.org/abs/2210.02885.
    """
    x = representation[:max_rows].astype(jnp.float32)
    x = x / jnp.maximum(jnp.max(jnp.abs(x)), 1e-30)  # keeps squares in range
    x = x if x.shape[0] <= x.shape[1] else x.T
    gram = jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST)
    eigenvalues = jnp.linalg.eigvalsh(gram)
    rounding = len(x) * jnp.finfo(jnp.float32).eps * eigenvalues[-1]
    # A comparison with NaN is false, so NaN survives.
    singular = jnp.sqrt(jnp.where(eigenvalues <= rounding, 0, eigenvalues))
    total = jnp.sum(singular)
    share = singular / jnp.where(total == 0, 1, total)
    entropy = -jnp.sum(share * jnp.log(jnp.where(share == 0, 1, share)))
    return jnp.where(total == 0, 0, jnp.exp(entropy))


def centered_rank(
    representation: Float[Array, "b d"], max_rows: int = 256
) -> Float32[Array, ""]:
    """Return the effective rank of l2-normalized representations minus their mean.

    Features with a large common offset have an effective rank near 1, like features
    that vary along one direction. This measure distinguishes the two, and loses no
    singular values to the offset. It is NaN with
    fewer than 16 rows, where the rank is always low.
    """
    if len(representation) < 16:
        return jnp.float32(jnp.nan)
    unit = l2_normalize(representation[:max_rows].astype(jnp.float32))
    return effective_rank(unit - unit.mean(axis=0)[None, :])
