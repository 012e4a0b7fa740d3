"""The bridge from BYOL to SimCLR: attraction, and beta times repulsion (P1 eq. 6)."""

import functools
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.config import InfoNCEConfig
from byol_bnfree.losses import l2_normalize, regression_loss
from byol_bnfree.objectives.objective import Objective, Passed, view_pairs


def infonce(config: InfoNCEConfig) -> Objective:
    """Contrast each view with both views of all other images of the global batch.

    With phi = prediction or projection, psi = target, and S the cosine of phi(u) and
    psi(u'), the loss of example i is the sum over both orders (v, v') of

        2 - 2 S(v_i, v'_i)
        + 2 alpha beta ln( sum_{j != i} exp S(v_i, v_j) / alpha
                           + sum_j exp S(v_i, v'_j) / alpha ).

    It is minus P1's equation 6 plus 2, so that beta 0 is BYOL's loss to the last bit.
    With beta 1, no predictor and no target it is 4 + 2 alpha (the two NT-Xent losses of
    the image), which is SimCLR.

    References: arXiv 2006.07733, equation 6 and Tables 5b, 18, 19; arXiv 2002.05709.
    """

    def loss(passed: Passed) -> Float[Array, " b"]:
        """At least 0 for beta 0, and unbounded for others."""
        online = passed.predictions if config.predictor else passed.projections
        targets = passed.targets
        terms = []
        for first, second in view_pairs(len(targets)):
            term = regression_loss(online[first], targets[second])
            if config.beta > 0:
                others = (targets[first], targets[second])
                crowd = _crowd(online[first], *others, config.alpha)
                term = term + 2 * config.alpha * config.beta * crowd
            terms.append(term)
        return functools.reduce(operator.add, terms)

    return Objective(loss, target=config.target)


def _crowd(
    online: Float[Array, "b k"],
    same: Float[Array, "b k"],
    other: Float[Array, "b k"],
    alpha: float,
) -> Float[Array, " b"]:
    """ln of the sum over all images in both views, but for the view itself.

    One program computes it for the whole batch, so that the negatives are those of all
    devices and processes.
    """
    query, same, other = map(l2_normalize, (online, same, other))
    itself = jnp.eye(len(query), dtype=bool)
    within = jnp.where(itself, -jnp.inf, cosines(query, same) / alpha)
    across = cosines(query, other) / alpha
    return jax.nn.logsumexp(jnp.concatenate([within, across], axis=1), axis=1)


def cosines(a: Float[Array, "b k"], b: Float[Array, "c k"]) -> Float[Array, "b c"]:
    """Products of all rows of unit length, in full float32 on every device."""
    return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
