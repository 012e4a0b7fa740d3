"""Parameters by their names: which of them decay, and which parts have own rates."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from byol_bnfree.config import OptimConfig
from byol_bnfree.errors import InputError

PREDICTORS = ("predictor", "small_predictor")


def decayed_mask(params):
    """True for kernels, False for biases and norm parameters.

    BYOL applies neither weight decay nor LARS's trust ratio to biases and norm
    parameters. As in DeepMind's code, the names of the parameter and of its layers
    decide. Flax itself names a layer after its class, as in "RMSNorm_0", so "norm" may
    have capitals. No norm of Flax has a "kernel". A layer with one is below a module
    such as a transformer's PreNorm, and counts as any other layer.
    """

    def is_kernel(path: tuple, _: Any) -> bool:
        *layers, name = names_of(path)
        of_norm = any("norm" in each.lower() for each in (*layers, name))
        return name == "kernel" or (name not in ("bias", "scale") and not of_norm)

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def names_of(path: tuple) -> list[str]:
    """Return the names from the root to an array, in a tree of any kind.

    The box of an array in Flax, such as `nnx.Param`, is no name. A tree that is one
    array has the name "".
    """
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return [jax.tree_util.keystr((key,), simple=True) for key in path] or [""]


def rates_by_part(
    schedule: optax.Schedule, predictor_rate: optax.Schedule
) -> optax.GradientTransformation:
    """The learning rate of a step, and another one for the predictor (SimSiam)."""

    def update(updates, state, params=None):
        """Multiply the updates of each part by its rate, and count the step."""
        rate, own_rate = schedule(state.count), predictor_rate(state.count)

        def scale(path: tuple, update: Any):
            own = names_of(path)[0] in PREDICTORS
            return (own_rate if own else rate) * update

        scaled = jax.tree_util.tree_map_with_path(scale, updates)
        return scaled, optax.ScaleByScheduleState(state.count + 1)

    def init(params):
        _check_first_level(params, PREDICTORS, "predictor_rate")
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    return optax.GradientTransformation(init, update)


def scale_by_part(optim: OptimConfig) -> optax.GradientTransformation:
    """Scale the updates of biases and norm parameters, and of the heads."""
    parts = dict.fromkeys(PREDICTORS, optim.predictor_lr_scale)
    parts["projector"] = optim.projector_lr_scale

    def scale(path: tuple, is_kernel: bool, update: Any):
        factor = 1.0 if is_kernel else optim.bias_lr_scale
        return factor * parts.get(names_of(path)[0], 1.0) * update

    def update(updates, state, params=None):
        del params
        mask = decayed_mask(updates)
        return jax.tree_util.tree_map_with_path(scale, mask, updates), state

    def init(params):
        if optim.predictor_lr_scale != 1:
            _check_first_level(params, PREDICTORS, "optim.predictor_lr_scale")
        if optim.projector_lr_scale != 1:
            _check_first_level(params, ("projector",), "optim.projector_lr_scale")
        return optax.EmptyState()

    return optax.GradientTransformation(init, update)


def _check_first_level(params: Any, parts: tuple[str, ...], setting: str) -> None:
    """Raise `InputError` unless one of the parts is at the first level of a tree."""
    names = {
        names_of(path)[0] for path, _ in jax.tree_util.tree_leaves_with_path(params)
    }
    if names.isdisjoint(parts):
        raise InputError(
            f"{setting} was given, but the first level of the parameters has no "
            f"{parts[0]}, only {', '.join(sorted(names)) or 'nothing'}; put its "
            f"parameters there under this name, or leave out the setting."
        )
