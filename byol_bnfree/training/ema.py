"""The target network's moving average. P1 is the BYOL paper (arXiv 2006.07733)."""

import jax
from jaxtyping import Array


def ema_update(target_params, online_params, tau: Array | float):
    """xi <- tau xi + (1 - tau) theta (P1 eq. 1), for every part of the target network.

    `online_params` (theta) are the parameters after the optimizer's update. float32.
    """
    return jax.tree.map(
        lambda xi, theta: xi + (1 - tau) * (theta - xi),
        target_params,
        {part: online_params[part] for part in target_params},
    )
