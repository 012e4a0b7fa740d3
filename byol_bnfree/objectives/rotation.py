"""Rotation: predict by how many quarters a view was turned (arXiv 1803.07728)."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from byol_bnfree.config import TURNS
from byol_bnfree.objectives.objective import Objective, Passed

_STREAM = 2**32 - 1  # folded into keys; no example has this position


def rotation() -> Objective:
    """Cross-entropy of the predictor's four outputs, averaged over the views.

    Each view is turned by its own number of quarters. The task looks at one image at a
    time and compares nothing, so it is a baseline for the other methods.

    References: Gidaris et al. 2018, https://arxiv.org/abs/1803.07728.
    """

    def loss(passed: Passed) -> Float[Array, " b"]:
        """Return the loss of each example; at least 0. Chance is ln 4."""
        entropy = optax.softmax_cross_entropy_with_integer_labels
        terms = [
            entropy(logits, passed.answers[:, view])
            for view, logits in enumerate(passed.predictions)
        ]
        return sum(terms) / len(terms)

    return Objective(loss, target="none", change_views=turn_views)


def turn_views(
    key: Array, views: Sequence[Float[Array, "b h w c"]], positions: Int[Array, " b"]
) -> tuple[tuple[Float[Array, "b h w c"], ...], Int[Array, "b v"]]:
    """Turn square views counter-clockwise; also return the quarters of each.

    Quarters depend on the key of the step and an example's position in the global batch
    only.
    """
    key = jax.random.fold_in(key, _STREAM)
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(positions)
    draw = functools.partial(
        jax.random.randint, shape=(len(views),), minval=0, maxval=TURNS
    )
    quarters = jax.vmap(draw)(keys)
    turned = [_turned(view, quarters[:, i]) for i, view in enumerate(views)]
    return tuple(turned), quarters


def _turned(view: Float[Array, "b h w c"], quarters: Int[Array, " b"]):
    """Turn each image by its own quarters."""

    def one(image, turns):
        return jax.lax.select_n(turns, *(jnp.rot90(image, k) for k in range(TURNS)))

    return jax.vmap(one)(view, quarters)
