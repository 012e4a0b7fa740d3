"""The target network's moving average. P1 is the BYOL paper (arXiv 2006.07733)."""

import jax
from jaxtyping import Array

from byol_bnfree.errors import InputError


def ema_update(target_params, online_params, tau: Array | float):
    """xi <- tau xi + (1 - tau) theta (P1 eq. 1), for every part of the target network.

    Args:
      target_params: xi, a tree of any kind, such as dicts, `FrozenDict` or
        `nnx.State`; float32. Its first level names the parts of the network.
      online_params: theta, the parameters after the optimizer's update; float32. Parts
        that the target does not have, such as the predictor, are not read.
      tau: from 0 to 1.

    Returns:
      The new xi, a tree like `target_params`.

    Raises:
      InputError: if a part does not have the same arrays in both trees.
    """
    parts = {path[:1] for path, _ in jax.tree.leaves_with_path(target_params)}
    theta = {
        path: leaf
        for path, leaf in jax.tree.leaves_with_path(online_params)
        if path[:1] in parts
    }
    _check_same({path for path, _ in jax.tree.leaves_with_path(target_params)}, theta)
    return jax.tree.map_with_path(
        lambda path, xi: xi + (1 - tau) * (theta[path] - xi), target_params
    )


def _check_same(target: set[tuple], online: dict[tuple, Array]) -> None:
    if target == online.keys():
        return
    path = min(target ^ online.keys(), key=jax.tree_util.keystr)
    has, lacks = ("target", "online") if path in target else ("online", "target")
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    raise InputError(
        f"the {has} parameters have an array {name!r} that the {lacks} parameters do "
        f"not have; give two trees of the same kind and network."
    )
