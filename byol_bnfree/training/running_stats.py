"""Changing the decay of BatchNorm's running statistics.

`BatchNorm` always updates with the decay 0.9. These functions turn its statistics
into those of another decay. They change only trees with a `count`; statistics of other
modules pass unchanged.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.models.batch_norm import BN_DECAY, corrected

SETTLED = 10_000  # after so many updates the correction 1 - 0.9^n is 1 in float32


def settled(stats: Any) -> Any:
    """Divide out the correction for the start at zero, once and for all.

    The statistics read the same as before. The correction belongs to the decay 0.9;
    without it they can be updated with any decay.
    """
    if not isinstance(stats, dict):
        return stats
    if "count" not in stats:
        return {name: settled(value) for name, value in stats.items()}
    mean, variance = corrected(stats["mean"], stats["var"], stats["count"])
    full = jnp.full_like(stats["count"], SETTLED)
    return {"mean": mean, "var": variance, "count": full}


def with_decay(before: Any, after: Any, decay: Float[Array, ""] | float) -> Any:
    """Return the statistics that one update with `decay` would have given.

    `after` is the result of an update of `before` with `BN_DECAY`. Since
    after - before = (1 - 0.9) * (batch - before), rescaling that step by
    (1 - decay) / (1 - 0.9) gives the update with another decay.
    """
    if not isinstance(before, dict):
        return after
    if "count" not in before:
        return {name: with_decay(before[name], after[name], decay) for name in before}
    share = (1 - decay) / (1 - BN_DECAY)
    moved = {n: before[n] + share * (after[n] - before[n]) for n in ("mean", "var")}
    return moved | {"count": after["count"]}
