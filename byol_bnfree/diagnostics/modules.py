"""Turns Flax modules into functions of images, to check batch independence."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from flax import nnx
from flax.errors import FlaxError, InvalidRngError
from jaxtyping import Array

from byol_bnfree.errors import InputError


class Checked(NamedTuple):
    """What is checked: a function without side effects, and its weights and keys."""

    run: Callable[..., tuple[Any, Any]]
    """Maps (images, *fixed) to outputs, and to what the module keeps for later."""
    fixed: tuple = ()
    """Variables and random keys, as trees of arrays."""

    def outputs(self, images: Array, *fixed: Any) -> Any:
        """Return the outputs."""
        return self.run(images, *fixed)[0]

    def kept(self, fixed: tuple, images: Array) -> Any:
        """Return what the module keeps, such as running statistics."""
        return self.run(images, *fixed)[1]


def as_checked(
    function: Callable[..., Any] | nn.Module,
    images: Array,
    args: tuple,
    kwargs: dict[str, Any],
    variables: Any,
    rngs: Any,
) -> Checked:
    """Return a function, or a module with its variables, in one form.

    Raises:
      InputError: if a Linen module draws random numbers without `rngs` or does not take
        `variables`, or if these are given for anything but a Linen module.
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
    return Checked(lambda images: (function(images, *args, **kwargs), {}))


def _linen(module: nn.Module, images, args, kwargs, variables, rngs) -> Checked:
    if rngs is not None and not isinstance(rngs, Mapping):
        rngs = {"params": rngs}  # Flax draws from it where a name has no key
    keys = {"params": jax.random.key(0)} | dict(rngs or {})

    def run(images, variables, rngs):
        # `args` and `kwargs` stay Python values, such as `train`.
        changing = [name for name in variables if name != "params"]
        outputs, changed = module.apply(
            variables, images, *args, rngs=rngs, mutable=changing, **kwargs
        )
        return outputs, {k: v for k, v in changed.items() if k != "intermediates"}

    name = type(module).__name__
    try:
        if variables is None:
            init = jax.jit(lambda x: module.init(keys, x, *args, **kwargs))
            variables = init(images)
        jax.eval_shape(run, images, variables, rngs)
    except InvalidRngError as error:
        raise InputError(
            f"the module {name} draws random numbers; give rngs, such as "
            f"rngs={{'dropout': jax.random.key(0)}}."
        ) from error
    except FlaxError as error:
        reason = str(error).split(" (https:")[0].rstrip(".")
        raise InputError(
            f"the module {name} cannot use these variables: {reason}; give what its "
            f"init returns, such as variables={{'params': params}}."
        ) from error
    return Checked(run, (variables, rngs))


def _nnx(module: nnx.Module, args, kwargs) -> Checked:
    """Call a copy of the module. Its changes stay in the copy."""
    graph, state = nnx.split(module)

    def run(images, state):
        copy = nnx.merge(graph, state, copy=True)
        outputs = copy(images, *args, **kwargs)
        return outputs, nnx.state(copy, nnx.Not(nnx.Intermediate))

    return Checked(run, (state,))
