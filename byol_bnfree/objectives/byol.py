"""BYOL: predict the target's projection of the other view.

P1 is the BYOL paper (arXiv 2006.07733); see its equation 2.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.config import BYOLConfig
from byol_bnfree.objectives.normalization import LOSS_NORMALIZATIONS
from byol_bnfree.objectives.objective import Objective, Passed

RIDGE = 1e-4  # times the mean eigenvalue; keeps the problem solvable in float32


def byol(config: BYOLConfig) -> Objective:
    """The squared distance of n(q) and n(z'), summed over both orders of the views.

    n is `loss_normalization`. With l2 this is `losses.byol_loss`. The predictor is the
    network's, or the linear map that fits this batch best.

    References: P1 (arXiv 2006.07733), equation 2, Table 20 and section 5.
    """
    normalize = LOSS_NORMALIZATIONS[config.loss_normalization]

    def distance(
        prediction: Float[Array, "b k"], target: Float[Array, "b k"]
    ) -> Float[Array, " b"]:
        """Return the squared distance of each example; with l2 it is 2 - 2 cos."""
        difference = normalize(prediction) - normalize(target)
        return jnp.sum(jnp.square(difference), axis=-1)

    def loss(passed: Passed) -> Float[Array, " b"]:
        """Return the loss of each example; with l2 it is in [0, 8]."""
        (q1, q2), (t1, t2) = passed.predictions, passed.targets
        if config.predictor == "closed_form":
            # The predictor of this batch replaces the network's.
            z1, z2 = passed.projections
            q1, q2 = fitted(z1, t2), fitted(z2, t1)
        return distance(q1, t2) + distance(q2, t1)

    return Objective(loss)


BYOL = byol(BYOLConfig())
"""BYOL with the settings of the paper."""


def fitted(
    projection: Float[Array, "b k"], target: Float[Array, "b k"]
) -> Float[Array, "b k"]:
    """Z W with W = (Z'Z)^-1 Z'T, the least-squares predictor of this batch.

    It is the one of P1, section 5. A ridge is added to Z'Z. We chose that no gradient
    passes through W: W is a constant of the batch, as the network's predictor is a
    constant of its forward pass.
    """
    z = jax.lax.stop_gradient(projection)
    product = jnp.matmul(z.T, z, precision=jax.lax.Precision.HIGHEST)
    ridge = RIDGE * jnp.mean(jnp.diag(product)) + jnp.finfo(z.dtype).tiny
    right = jnp.matmul(z.T, target, precision=jax.lax.Precision.HIGHEST)
    weights = jax.scipy.linalg.solve(
        product + ridge * jnp.eye(len(product)), right, assume_a="pos"
    )
    return jnp.matmul(projection, weights, precision=jax.lax.Precision.HIGHEST)
