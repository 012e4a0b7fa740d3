"""Measures how other examples of a batch change an example's outputs.

It takes derivatives and exact comparisons on given images.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from byol_bnfree.diagnostics.static import check_rows

ROUNDING = 1e-4
"""Allowed deviation, relative to the largest output, between batch sizes."""


@dataclass(frozen=True)
class NumericalReport:
    """How much other examples change an example's outputs, for the given images."""

    cross_derivative: float
    """Largest |d output i / d image j| for i != j. NaN if there is no derivative."""
    changed_by_others: float
    """Largest change of row i when the other images change."""
    alone: float | None
    """Largest deviation between a batch of one and its row in the batch, relative to
    the output. None if the function rejects a batch of one or draws random numbers."""

    @property
    def holds(self) -> bool:
        """True if the first two are exactly 0 and the last is at most `ROUNDING`.

        Missing numbers do not count.
        """
        derived = self.cross_derivative == 0 or math.isnan(self.cross_derivative)
        exact = derived and self.changed_by_others == 0
        return exact and (self.alone is None or self.alone <= ROUNDING)


def numerical_independence(
    function: Callable[[Array], Any],
    images: Float[Array, "b ..."],
    directions: int = 4,
) -> NumericalReport:
    """Measure how other images change each row, on the given images.

    The Jacobian's blocks are taken along `directions` random combinations of each row's
    outputs. If a block is not zero, all combinations vanish with probability zero.
    """
    compiled = jax.jit(function)
    for leaf in jax.tree.leaves(jax.eval_shape(compiled, images)):
        check_rows(leaf.shape, len(images))
    outputs = jax.device_get(compiled(images))
    return NumericalReport(
        _cross_derivative(function, images, directions),
        _changed_by_others(compiled, images, outputs),
        None if _draws(function, images) else _alone(compiled, images, outputs),
    )


def _cross_derivative(function, images: Array, directions: int) -> float:
    size = len(images)

    @jax.jit
    def derivatives(images):
        """Return the largest cross derivative of each row and direction, [b * n]."""
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
        largest = float(derivatives(images).max())
        return math.inf if math.isnan(largest) else largest
    except (TypeError, ValueError, NotImplementedError):
        return float("nan")  # JAX raises these if there is no derivative


def _row_of_noise(key: Array, like: Array, index: Array) -> Array:
    """Draw a cotangent that is zero in all rows but one."""
    shape = (len(like),) + (1,) * (like.ndim - 1)
    chosen = (jnp.arange(len(like)) == index).reshape(shape)
    return jnp.where(chosen, jax.random.normal(key, like.shape, like.dtype), 0)


def _changed_by_others(function, images: Array, outputs: Any) -> float:
    """Replace the others by noise, by each other, and by copies of row i."""
    size, largest = len(images), 0.0
    drawn = jax.random.normal(jax.random.key(1), images.shape)
    # In the images' dtype: in another one the function would round differently.
    noise = (images.std() * drawn).astype(images.dtype)
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
    """Return the largest difference of a row in two trees; inf if only one is NaN."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(
        0.0
        if np.array_equal(x[row], y[row], equal_nan=True)
        else float(np.nan_to_num(np.abs(x[row] - y[row]).max(), nan=np.inf))
        for x, y in pairs
    )


def _draws(function, images: Array) -> bool:
    """Return True if random numbers are drawn. A batch of one would get others."""
    return "random_bits" in str(jax.make_jaxpr(function)(images))


def _alone(function, images: Array, outputs: Any) -> float | None:
    try:
        jax.eval_shape(function, images[:1])
    except (TypeError, ValueError):  # for instance a reshape to a fixed size
        return None
    largest = 0.0
    for row in range(len(images)):
        alone = jax.device_get(function(images[row : row + 1]))
        for one, all_rows in zip(
            jax.tree.leaves(alone), jax.tree.leaves(outputs), strict=True
        ):
            if np.array_equal(one[0], all_rows[row], equal_nan=True):
                continue
            scale = np.abs(all_rows).max() or 1.0
            apart = np.abs(one[0] - all_rows[row]).max() / scale
            largest = max(largest, float(np.nan_to_num(apart, nan=np.inf)))
    return largest
