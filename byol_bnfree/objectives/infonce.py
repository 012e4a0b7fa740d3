"""A bridge from BYOL to SimCLR: attraction, plus beta times repulsion (P1 eq. 6).

P1 is the BYOL paper (arXiv 2006.07733).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.config import InfoNCEConfig
from byol_bnfree.losses import l2_normalize, regression_loss
from byol_bnfree.objectives.objective import Objective, Passed


def infonce(config: InfoNCEConfig) -> Objective:
    """Contrast each view with both views of all other images of the global batch.

    Let phi be the prediction or the projection, psi the target, and S the cosine of
    phi(u) and psi(u'). The loss of example i is the sum over both orders (v, v') of

        2 - 2 S(v_i, v'_i)
        + 2 alpha beta ln( sum_{j != i} exp S(v_i, v_j) / alpha
                           + sum_j exp S(v_i, v'_j) / alpha ).

    This is 2 minus P1's equation 6, so beta = 0 is bit-identical to BYOL's loss. With
    beta = 1, no predictor and no target it is 4 + 2 alpha (the two NT-Xent losses of
    the image), which is SimCLR.

    References: P1, equation 6 and Tables 5b, 18, 19; SimCLR, arXiv 2002.05709.
    """

    def term(
        online: Float[Array, "b k"],
        same: Float[Array, "b k"],
        other: Float[Array, "b k"],
    ) -> Float[Array, " b"]:
        """Return the part of one view: `same` are its targets, `other` the others'."""
        attraction = regression_loss(online, other)
        if config.beta == 0:  # exactly the bits of BYOL's loss
            return attraction
        crowd = _crowd(online, same, other, config.alpha)
        return attraction + 2 * config.alpha * config.beta * crowd

    def loss(passed: Passed) -> Float[Array, " b"]:
        """Return the loss of each example; at least 0 if beta is 0."""
        v1, v2 = passed.predictions if config.predictor else passed.projections
        t1, t2 = passed.targets
        return term(v1, t1, t2) + term(v2, t2, t1)

    return Objective(loss, target=config.target)


def _crowd(
    online: Float[Array, "b k"],
    same: Float[Array, "b k"],
    other: Float[Array, "b k"],
    alpha: float,
) -> Float[Array, " b"]:
    """Return ln of the sum over all images in both views, without the view itself.

    One program computes it for the whole batch, so the negatives come from all devices
    and processes.
    """
    query, same, other = map(l2_normalize, (online, same, other))
    itself = jnp.eye(len(query), dtype=bool)
    within = jnp.where(itself, -jnp.inf, cosines(query, same) / alpha)
    across = cosines(query, other) / alpha
    return jax.nn.logsumexp(jnp.concatenate([within, across], axis=1), axis=1)


def cosines(a: Float[Array, "b k"], b: Float[Array, "c k"]) -> Float[Array, "b c"]:
    """Multiply all pairs of unit rows, in full float32 on every device."""
    return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
