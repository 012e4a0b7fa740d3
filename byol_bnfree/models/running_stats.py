"""BatchNorm's running statistics under another decay than the one they are kept with.

Both functions read the tree of `norm.BatchNorm`; other modules' statistics, which have
no `count`, pass unchanged.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.models.norm import BN_DECAY

SETTLED = 10_000  # updates, after which the correction 1 - 0.9^n is 1 in float32


def settled(stats: Any) -> Any:
    """Statistics that read the same and no longer need correcting for their zero start.

    So that they may go on with any decay: the correction is one for 0.9.
    """
    if not isinstance(stats, dict):
        return stats
    if "count" not in stats:
        return {name: settled(value) for name, value in stats.items()}
    count = stats["count"]
    weight = jnp.where(count == 0, 1.0, 1 - BN_DECAY ** count.astype(jnp.float32))
    variance = jnp.where(count == 0, 1.0, stats["var"] / weight)
    full = jnp.full_like(count, SETTLED)
    return {"mean": stats["mean"] / weight, "var": variance, "count": full}


def with_decay(before: Any, after: Any, decay: Float[Array, ""] | float) -> Any:
    """The result of one update with `decay`; `after` had `BN_DECAY`."""
    if not isinstance(before, dict):
        return after
    if "count" not in before:
        return {name: with_decay(before[name], after[name], decay) for name in before}
    share = (1 - decay) / (1 - BN_DECAY)
    moved = {n: before[n] + share * (after[n] - before[n]) for n in ("mean", "var")}
    return moved | {"count": after["count"]}
