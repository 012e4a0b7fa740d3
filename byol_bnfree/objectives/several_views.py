"""BYOL's loss for several views (FastSiam), and for small views (multi-crop).

Every view predicts the targets of all other large views. Let q and z' have length 1.
The loss of view v is the mean of |q_v - a|^2 over its aims a. The loss of an image is
the mean over its views, times 2. For two views this is equation 2 of the BYOL paper
(P1, arXiv 2006.07733).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Normalize = Callable[[Float[Array, "b k"]], Float[Array, "b k"]]


def aims_of(
    targets: Sequence[Float[Array, "b k"]], how: str, normalize: Normalize
) -> tuple[Float[Array, "n a b k"], Float[Array, "a2 b k"]]:
    """Return the points that each large view predicts, and those of any small view.

    `targets` are the target projections of the n large views. With `how` "pairs" the
    aims of a view are the normalized targets of the others, one by one. With "mean" its
    only aim is the normalized mean of these.

    References: Pototzky et al. 2022 (FastSiam) for "mean"; Caron et al. 2020, arXiv
    2006.09882, for small views.
    """
    units = jnp.stack([normalize(z) for z in jax.lax.stop_gradient(tuple(targets))])
    count = len(units)
    others = np.array([[j for j in range(count) if j != i] for i in range(count)])
    large, small = units[others], units
    if how == "pairs":
        return large, small
    centre = jax.vmap(normalize)
    if count > 2:  # the mean of one target has its length already
        large = centre(large.mean(1))[:, None]
    return large, centre(small.mean(0)[None])


def loss_of_view(
    prediction: Float[Array, "b k"],
    aims: Float[Array, "a b k"],
    normalize: Normalize,
    views: int,
) -> Float[Array, " b"]:
    """Return this view's part of each image's loss. `views` parts sum to the loss."""
    difference = normalize(prediction)[None] - aims
    return jnp.sum(jnp.square(difference), axis=-1).mean(0) * (2 / views)


def loss_of_views(
    predictions: Sequence[Float[Array, "b k"]],
    targets: Sequence[Float[Array, "b k"]],
    small: Sequence[Float[Array, "b k"]],
    how: str,
    normalize: Normalize,
) -> Float[Array, " b"]:
    """Return the loss of each image from all its projections and predictions.

    `predictions` and `targets` are those of the large views, in the same order.
    `small` are the predictions of small views.
    """
    large, aims = aims_of(targets, how, normalize)
    pairs = [*zip(predictions, large, strict=True), *((q, aims) for q in small)]
    return sum(loss_of_view(q, a, normalize, len(pairs)) for q, a in pairs)
