"""Turns Flax modules into functions of images, to check batch independence."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.errors import FlaxError, InvalidRngError, TraceContextError
from jax.errors import JAXTypeError, UnexpectedTracerError
from jaxtyping import Array

from byol_bnfree.errors import InputError
from byol_bnfree.leaves import by_path


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
    function: Any,
    images: Array,
    args: tuple,
    kwargs: dict[str, Any],
    variables: Any,
    rngs: Any,
) -> Checked:
    """Return a function, or a Linen or NNX module with its variables, in one form.

    Raises:
      InputError: if the function cannot be called, if a Linen module draws random
        numbers without `rngs` or does not take `variables`, if these are given for
        anything but a Linen module, if a further argument is an array with one row per
        image, or for the class of a module.
    """
    if isinstance(function, type) and issubclass(function, (nn.Module, nnx.Module)):
        raise InputError(
            f"{function.__name__} is a class of modules; give a module of it, such as "
            f"{function.__name__}(...)."
        )
    if not callable(function):
        raise InputError(
            f"the function is {function!r}, which cannot be called; give a function "
            f"of images, or a Linen or NNX module."
        )
    _refuse_rows(len(images), args, kwargs)
    if isinstance(function, nn.Module):
        return _linen(function, images, args, kwargs, variables, rngs)
    if variables is not None or rngs is not None:
        raise InputError(
            "variables and rngs belong to a Linen module, but this is "
            f"{type(function).__name__}; leave them out."
        )
    if isinstance(function, nnx.Module):
        return _nnx(function, images, args, kwargs)
    return Checked(lambda images: (_arrays(function(images, *args, **kwargs)), {}))


@contextmanager
def in_sentences() -> Iterator[None]:
    """Turn errors of JAX and Flax about a function into sentences that say what to do.

    Raises:
      InputError: if JAX cannot trace the function, or Flax cannot call its modules.
    """
    try:
        yield
    except TraceContextError as error:
        raise InputError(
            "the function changes an NNX module that it closes over; pass the module "
            "itself instead of the function."
        ) from error
    except FlaxError as error:
        raise InputError(
            f"the function cannot call its module: {_reason(error)}; pass the module "
            f"itself, or a function that calls module.apply(variables, images)."
        ) from error
    except NameError as error:
        if "unbound axis name" not in str(error):
            raise
        raise InputError(
            f"the function combines devices, which are not there: {_reason(error)}; "
            f"leave out the name of the axis, such as axis_name=None."
        ) from error
    except (JAXTypeError, UnexpectedTracerError) as error:
        raise InputError(
            f"JAX cannot trace the function: {_reason(error)}; use jax.numpy, and "
            f"jnp.where or lax.cond for conditions, and store no array elsewhere."
        ) from error


def _arrays(outputs: Any) -> Any:
    """Return the outputs. Raise `InputError` if one can be no array, as a string."""
    for leaf in jax.tree.leaves(outputs):
        if not isinstance(
            leaf, (jax.Array, np.ndarray, np.generic, complex, float, int)
        ):
            raise InputError(
                f"an output is {type(leaf).__name__}, which is no array; return arrays "
                f"[b ...] only."
            )
    return outputs


def _reason(error: Exception) -> str:
    """Return the first sentence of an error, without its link and full stop."""
    first = str(error).splitlines()[0].split(" (https:")[0].split(". ")[0]
    return first.rstrip(".")


def _refuse_rows(size: int, args: tuple, kwargs: dict[str, Any]) -> None:
    """Raise `InputError` if an argument may hold a row of each example.

    Further arguments are constants that belong to no example. Rows of a second input
    would be proven apart although the function mixes them.
    """
    for path, leaf in jax.tree.leaves_with_path((args, kwargs)):
        shape = getattr(leaf, "shape", ())
        if shape and shape[0] == size:
            name = jax.tree_util.keystr(path[1:], simple=True, separator="/")
            raise InputError(
                f"argument {name} after the images is an array of shape {shape}, whose "
                f"rows may belong to the {size} images; if it is a constant that all "
                f"images share, close over it, as in lambda x: f(x, constant), and if "
                f"it is a second input, give both in one array [b ...] and split it in "
                f"the function."
            )


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
        sown = {"intermediates": changed.get("intermediates", {})}
        return _arrays(outputs), _kept(changed, variables, sown)

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


def _nnx(module: nnx.Module, images, args, kwargs) -> Checked:
    """Call a copy of the module. Its changes stay in the copy.

    A first call may create attributes that later calls read. It may therefore be
    another program than the second, and both are checked.
    """
    called = nnx.clone(module)
    called(images, *args, **kwargs)
    if not jax.tree.leaves(nnx.state(module, nnx.Intermediate)):
        nnx.pop(called, nnx.Intermediate)  # what a call only sows
    first, second = nnx.split(module), nnx.split(called)
    calls = [first] if first[0] == second[0] else [first, second]
    graphs = [graph for graph, _ in calls]

    def call(graph, state, images):
        copy = nnx.merge(graph, state, copy=True)
        outputs = copy(images, *args, **kwargs)
        return _arrays(outputs), _kept(
            nnx.state(copy), state, nnx.state(copy, nnx.Intermediate)
        )

    def run(images, *states):
        runs = [call(*pair, images) for pair in zip(graphs, states, strict=True)]
        outputs, kept = zip(*runs, strict=True)
        return outputs, {path: x for one in kept for path, x in one.items()}

    return Checked(run, tuple(state for _, state in calls))


def _kept(after: Any, before: Any, sown: Any) -> dict[str, Array]:
    """Return the arrays of a module that a later call can read, by their paths.

    What a call sows is a record for its caller. A record that was there before the call
    may be read by it, so it counts.
    """
    records = by_path(sown).keys() - by_path(before).keys()
    return {path: x for path, x in by_path(after).items() if path not in records}
