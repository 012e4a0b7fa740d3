"""SGD with momentum, whose kernels decay: the optimizer of everything fine-tuned."""

from typing import Any

import optax
from jaxtyping import Array, Float

from byol_bnfree.training.part_rates import decayed_mask

MOMENTUM = 0.9  # P1 (arXiv 2006.07733) appendices C.1, D.3 and D.4


def momentum_update(
    gradient: Any,
    params: Any,
    momentum: Any,
    decay: Float[Array, ""] | float,
    *,
    nesterov: bool,
) -> tuple[Any, Any]:
    """Return the update without the learning rate, and the new momentum.

    g' = g + decay w (kernels only); m = 0.9 m + g'; the update is m, or g' + 0.9 m with
    Nesterov's rule.
    """
    decays = optax.add_decayed_weights(decay, decayed_mask)
    decayed, _ = decays.update(gradient, decays.init(params), params)
    rule = optax.trace(MOMENTUM, nesterov)
    update, state = rule.update(decayed, optax.TraceState(momentum))
    return update, state.trace
