"""Turns Flax modules into functions of images, to check batch independence."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from flax import nnx
from flax.errors import InvalidRngError
from jaxtyping import Array

from byol_bnfree.errors import InputError


def as_function(
    function: Callable[..., Any] | nn.Module,
    images: Array,
    args: tuple,
    kwargs: dict[str, Any],
    variables: Any,
    rngs: Any,
) -> Callable[[Array], Any]:
    """Return a function of the images only, without side effects.

    Raises:
      InputError: if a Linen module draws random numbers without `rngs`, or `variables`
        or `rngs` are given for anything but a Linen module.
    """
    if isinstance(function, nn.Module):
        return _linen(function, images, args, kwargs, variables, rngs)
    if variables is not None or rngs is not None:
        raise InputError(
            "variables and rngs belong to a Linen module, but this is "
            f"{type(function).__name__}; leave them out."
        )
    if isinstance(function, nnx.Module):
        return _nnx(function, args, kwargs)
    if not (args or kwargs):
        return function
    return lambda images: function(images, *args, **kwargs)


def _linen(module: nn.Module, images, args, kwargs, variables, rngs):
    """Apply the module and drop its changed statistics."""
    # A closure, because arguments such as `train` must stay Python values.
    init = partial(module.init, {"params": jax.random.key(0)} | (rngs or {}))
    try:
        if variables is None:
            variables = jax.jit(lambda x: init(x, *args, **kwargs))(images)
        changing = [name for name in variables if name != "params"]
        apply = partial(module.apply, variables, rngs=rngs, mutable=changing)
        jax.eval_shape(lambda x: apply(x, *args, **kwargs), images)
    except InvalidRngError as error:
        raise InputError(
            f"the module {type(module).__name__} draws random numbers; give rngs, such "
            f"as rngs={{'dropout': jax.random.key(0)}}."
        ) from error
    return lambda images: apply(images, *args, **kwargs)[0]


def _nnx(module: nnx.Module, args, kwargs):
    """Call a copy of the module. Its changes stay in the copy."""
    graph, state = nnx.split(module)
    return lambda images: nnx.merge(graph, state, copy=True)(images, *args, **kwargs)
