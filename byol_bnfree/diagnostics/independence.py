"""Does the batch leak? One example's outputs against all others', two ways.

By numbers: derivatives and exact comparisons on given images. By the program: an
analysis of the traced jaxpr that holds for all images of the same shape.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.diagnostics.static import (
    StaticReport,
    check_rows,
    static_independence,
)

ROUNDING = 1e-4
"""Deviation, relative to the largest output, that another batch size may cause."""


@dataclass(frozen=True)
class NumericalReport:
    """What other examples change in an example's outputs, on the images given."""

    cross_derivative: float
    """Largest |d output i / d image j|, i != j; NaN if it cannot be derived."""
    changed_by_others: float
    """Largest change of row i when the other images are others."""
    alone: float | None
    """Largest deviation of a batch of one from its row, relative to the output; None
    if the function takes no batch of one."""

    @property
    def holds(self) -> bool:
        """The first two exactly 0, the last within `ROUNDING`."""
        exact = self.cross_derivative == 0 and self.changed_by_others == 0
        return exact and (self.alone is None or self.alone <= ROUNDING)


@dataclass(frozen=True)
class IndependenceReport:
    """Both answers; `holds` only if both say independent."""

    numerical: NumericalReport
    static: StaticReport

    @property
    def holds(self) -> bool:
        """Whether row i depends on image i alone."""
        return self.numerical.holds and self.static.verdict == "independent"


def batch_independence(
    function: Callable[..., Any] | nn.Module,
    images: Float[Array, "b ..."],
    *args: Any,
    variables: Any = None,
) -> IndependenceReport:
    """Whether row i of a function's outputs depends on image i alone.

    Args:
      function: called as `function(images, *args)`, returns an array [b ...] or a
        tree of such; or a Linen module, whose statistics may change as in training.
      images: two or more, floats.
      *args: passed on, such as a module's `train`.
      variables: of the module; initialized if not given.

    Raises:
      InputError: fewer than two images, or an output that is not [b ...].
    """
    if isinstance(function, nn.Module):
        function = _apply(function, variables, images, args)
    function = partial(_with, function, args)
    static = static_independence(function, images)
    return IndependenceReport(numerical_independence(function, images), static)


def _with(function, args, images):
    return function(images, *args)


def _apply(module: nn.Module, variables: Any, images: Array, args: tuple):
    """The module as a function; its changed statistics are dropped."""
    if variables is None:
        variables = module.init(jax.random.key(0), images, *args)
    changing = [name for name in variables if name != "params"]

    def function(images: Array, *args: Any) -> Any:
        result = module.apply(variables, images, *args, mutable=changing)
        return result[0]

    return function


def numerical_independence(
    function: Callable[[Array], Any],
    images: Float[Array, "b ..."],
    directions: int = 4,
) -> NumericalReport:
    """Measure what other images do to each row, on these images.

    Blocks of the Jacobian are taken along `directions` random combinations of each
    row's outputs: a block that is not zero makes all of these zero by no accident.
    """
    compiled = jax.jit(function)
    for leaf in jax.tree.leaves(jax.eval_shape(compiled, images)):
        check_rows(leaf.shape, len(images))
    outputs = jax.device_get(compiled(images))
    return NumericalReport(
        _cross_derivative(function, images, directions),
        _changed_by_others(compiled, images, outputs),
        _alone(compiled, images, outputs),
    )


def _cross_derivative(function, images: Array, directions: int) -> float:
    size = len(images)

    @jax.jit
    def derivatives(images):
        outputs, pull_back = jax.vjp(function, images)
        leaves, tree = jax.tree.flatten(outputs)

        def row(index, key):
            keys = jax.random.split(key, len(leaves))
            drawn = [
                _row_of_noise(k, x, index) for k, x in zip(keys, leaves, strict=True)
            ]
            (gradient,) = pull_back(jax.tree.unflatten(tree, drawn))
            largest = jnp.abs(gradient).max(tuple(range(1, images.ndim)))
            return jnp.where(jnp.arange(size) == index, 0, largest).max()

        rows = jnp.repeat(jnp.arange(size), directions)
        return jax.vmap(row)(rows, jax.random.split(jax.random.key(0), len(rows)))

    try:
        return float(derivatives(images).max())
    except (TypeError, ValueError):  # JAX's words for what has no derivative
        return float("nan")


def _row_of_noise(key: Array, like: Array, index: Array) -> Array:
    shape = (len(like),) + (1,) * (like.ndim - 1)
    chosen = (jnp.arange(len(like)) == index).reshape(shape)
    return jnp.where(chosen, jax.random.normal(key, like.shape, like.dtype), 0)


def _changed_by_others(function, images: Array, outputs: Any) -> float:
    """Others replaced by noise, moved on by one place, and made copies of row i."""
    size, largest = len(images), 0.0
    noise = images.std() * jax.random.normal(jax.random.key(1), images.shape)
    for row in range(size):
        others = np.delete(np.arange(size), row)
        moved = np.arange(size)
        moved[others] = np.roll(others, 1)
        copies = np.full(size, row)
        for batch in (noise.at[row].set(images[row]), images[moved], images[copies]):
            changed = jax.device_get(function(batch))
            largest = max(largest, _difference(changed, outputs, row))
    return largest


def _difference(a: Any, b: Any, row: int) -> float:
    """Largest difference of a row in two trees; infinite where only one is a number."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(
        0.0
        if np.array_equal(x[row], y[row], equal_nan=True)
        else float(np.nan_to_num(np.abs(x[row] - y[row]).max(), nan=np.inf))
        for x, y in pairs
    )


def _alone(function, images: Array, outputs: Any) -> float | None:
    try:
        jax.eval_shape(function, images[:1])
    except (TypeError, ValueError):  # such as a reshape to a fixed size
        return None
    largest = 0.0
    for row in range(len(images)):
        alone = jax.device_get(function(images[row : row + 1]))
        for one, all_rows in zip(
            jax.tree.leaves(alone), jax.tree.leaves(outputs), strict=True
        ):
            scale = np.abs(all_rows).max() or 1.0
            largest = max(largest, float(np.abs(one[0] - all_rows[row]).max() / scale))
    return largest
