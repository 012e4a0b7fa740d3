"""The target network's moving average."""

import jax
from jaxtyping import Array


def ema_update(target_params, online_params, tau: Array | float):
    """xi <- tau xi + (1 - tau) theta (P1 eq. 1), for the parts the target has.

    `online_params` are those after the optimizer's step. float32.
    """
    return jax.tree.map(
        lambda xi, theta: xi + (1 - tau) * (theta - xi),
        target_params,
        {part: online_params[part] for part in target_params},
    )
