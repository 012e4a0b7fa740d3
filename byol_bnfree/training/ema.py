"""The target network's moving average. P1 is the BYOL paper (arXiv 2006.07733)."""

from collections.abc import Set

import jax
import jax.numpy as jnp
from jaxtyping import Array

from byol_bnfree.errors import InputError
from byol_bnfree.scalars import is_scalar


def ema_update(target_params, online_params, tau: Array | float):
    """xi <- tau xi + (1 - tau) theta (P1 eq. 1), for every part of the target network.

    Args:
      target_params: xi, a tree of any kind, such as dicts, `FrozenDict` or
        `nnx.State`; float32. Its first level names the parts of the network.
      online_params: theta, the parameters after the optimizer's update; float32. Parts
        that the target does not have, such as the predictor, are not read.
      tau: one number from 0 to 1. Inside compiled functions its value is not checked.

    Returns:
      The new xi, a tree like `target_params`, of its dtypes. Keep it in float32:
      shorter floats round small steps away, so in bfloat16 a target with tau 0.999
      hardly moves.

    Raises:
      InputError: if the target has no array, a part does not have the same arrays in
        both trees, an array has another shape in the other tree, or it does not hold
        floats; and for a tau that is not from 0 to 1.
    """
    if not is_scalar(tau, 1):
        raise InputError(f"tau is {tau!r}; give one number from 0 to 1.")
    xi_by_path = dict(jax.tree.leaves_with_path(target_params))
    if not xi_by_path:
        raise InputError(
            "the target parameters hold no array; give those of the target network."
        )
    parts = {path[:1] for path in xi_by_path}
    theta = {
        path: leaf
        for path, leaf in jax.tree.leaves_with_path(online_params)
        if path[:1] in parts
    }
    _check_names(xi_by_path.keys(), theta.keys())
    for path, xi in xi_by_path.items():
        _check_array(path, xi, theta[path])
    return jax.tree.map_with_path(
        lambda path, xi: jnp.asarray(
            xi + (1 - tau) * (theta[path] - xi), jnp.result_type(xi)
        ),
        target_params,
    )


def _check_names(target: Set[tuple], online: Set[tuple]) -> None:
    if target == online:
        return
    path = min(target ^ online, key=jax.tree_util.keystr)
    has, lacks = ("target", "online") if path in target else ("online", "target")
    raise InputError(
        f"the {has} parameters have an array {_name(path)!r} that the {lacks} "
        f"parameters do not have; give two trees of the same kind and network."
    )


def _check_array(path: tuple, target: Array, online: Array) -> None:
    """Compare shapes, which would broadcast. Keys and counters have no average."""
    if jnp.shape(target) != jnp.shape(online):
        raise InputError(
            f"the array {_name(path)!r} has shape {jnp.shape(target)} in the target "
            f"and {jnp.shape(online)} in the online parameters; give two trees of the "
            f"same network."
        )
    if not jnp.issubdtype(kind := jax.dtypes.result_type(target), jnp.floating):
        raise InputError(
            f"the array {_name(path)!r} of the target is of {kind}; give parameters "
            f"only, which are floats, as nnx.state(model, nnx.Param) does."
        )


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
