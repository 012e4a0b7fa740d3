"""Measures how other examples of a batch change an example's outputs.

It takes derivatives and exact comparisons on given images.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from byol_bnfree.diagnostics.dataflow.interpret import DRAWS
from byol_bnfree.diagnostics.derivatives import (
    differentiable,
    float_places,
    floats_and_others,
)
from byol_bnfree.diagnostics.static import check_rows

ROUNDING = 1e-4
"""Allowed deviation between batch sizes in float32, relative to the largest output.

The limit of another dtype is in proportion to the square root of its epsilon: 9e-3 in
float16 and 2.6e-2 in bfloat16.
"""
MOST_ROWS = 32
"""Rows that are examined of a larger batch. Each costs seven evaluations of it."""
_FLOATS = {
    "f64": jnp.float64,
    "f32": jnp.float32,
    "f16": jnp.float16,
    "bf16": jnp.bfloat16,
}


@dataclass(frozen=True)
class NumericalReport:
    """How much other examples change an example's outputs, for the given images."""

    cross_derivative: float
    """Largest |d output i / d image j| for i != j. NaN if there is no derivative."""
    changed_by_others: float
    """Largest change of row i when the other images change. The outputs are those of
    the function, and those of the forward pass of its derivative."""
    alone: float | None
    """Largest deviation between a batch of one and its row in the batch, relative to
    the output. None if the function rejects a batch of one or draws random numbers."""
    limit: float = ROUNDING
    """Limit of `alone`: see `ROUNDING`. It is that of the coarsest dtype in the
    program."""
    unexamined: int = 0
    """Rows i that were not examined, because the batch is large."""

    @property
    def holds(self) -> bool:
        """True if the first two are exactly 0 and the last is at most `limit`.

        Missing numbers do not count.
        """
        derived = self.cross_derivative == 0 or math.isnan(self.cross_derivative)
        exact = derived and self.changed_by_others == 0
        return exact and (self.alone is None or self.alone <= self.limit)


def numerical_independence(
    function: Callable[[Array], Any],
    images: Float[Array, "b ..."],
    directions: int = 4,
) -> NumericalReport:
    """Measure how other images change each row, on the given images.

    The Jacobian's blocks are taken along `directions` random combinations of each row's
    outputs. If a block is not zero, all combinations vanish with probability zero. Of a
    batch larger than `MOST_ROWS` this many rows are examined, evenly spread.
    """
    for leaf in jax.tree.leaves(jax.eval_shape(function, images)):
        check_rows(leaf, len(images))
    count = min(len(images), MOST_ROWS)
    rows = np.linspace(0, len(images) - 1, count).astype(int).tolist()
    program = str(jax.make_jaxpr(function)(images))
    # A batch of one would get other random numbers.
    draws = any(name in program for name in DRAWS)
    compiled = jax.jit(_with_derivatives_values(function, images))
    outputs = jax.device_get(compiled(images))
    return NumericalReport(
        _cross_derivative(function, images, rows, directions),
        _changed_by_others(compiled, images, outputs, rows),
        None if draws else _alone(compiled, images, outputs, rows),
        _limit(program),
        len(images) - len(rows),
    )


def _limit(program: str) -> float:
    """Return the limit of the coarsest dtype in the text of a program."""
    names = {"f32", *re.findall(r"\b(bf16|f16)\[", program)}
    if "f64[" in program and not re.search(r"\b(bf16|f16|f32)\[", program):
        names = {"f64"}
    epsilon = max(float(jnp.finfo(_FLOATS[name]).eps) for name in names)
    return ROUNDING * math.sqrt(epsilon / float(jnp.finfo(jnp.float32).eps))


def _with_derivatives_values(function, images: Array) -> Callable[[Array], Any]:
    """Return the outputs several times: plainly, and as differentiation computes them.

    A custom derivative has a forward pass of its own. The derivative is that by the
    images and by the weights that the function closes over, or by the images alone. It
    is also that by the weights alone, as in training.
    """

    def values(by: tuple[bool, bool], images):
        program = jax.make_jaxpr(function)(images)
        run, arrays = differentiable(program, [images], float_places(program, *by))
        found, _, others = jax.vjp(run, arrays, has_aux=True)
        return found, others

    def exists(by: tuple[bool, bool]) -> bool:
        try:
            jax.eval_shape(partial(values, by), images)
        except Exception:  # there is no derivative
            return False
        return True

    by_images = filter(exists, ((True, True), (True, False)))
    chosen = [by for by in (next(by_images, None),) if by]
    program = jax.make_jaxpr(function)(images)
    if float_places(program, by_images=False) and exists((False, True)):
        chosen.append((False, True))

    def several(images):
        return function(images), [values(by, images) for by in chosen]

    return several


def _cross_derivative(
    function, images: Array, rows: list[int], directions: int
) -> float:
    @jax.jit
    def derivatives(images):
        """Return the largest cross derivative of each row and direction, [n]."""
        outputs, pull_back, _ = jax.vjp(
            partial(floats_and_others, function), images, has_aux=True
        )

        def row(drawn):
            """Return the largest derivative of other rows' images for noise in one."""
            index, key = drawn
            keys = jax.random.split(key, len(outputs))
            gradients = [
                _row_of_noise(k, x, index) for k, x in zip(keys, outputs, strict=True)
            ]
            (gradient,) = pull_back(gradients)
            largest = jnp.abs(gradient).max(tuple(range(1, images.ndim)))
            return jnp.where(jnp.arange(len(images)) == index, 0, largest).max()

        indices = jnp.repeat(jnp.asarray(rows), directions)
        keys = jax.random.split(jax.random.key(0), len(indices))
        # Row by row, because all gradients together would need too much memory.
        return jax.lax.map(row, (indices, keys), batch_size=directions)

    try:
        largest = float(derivatives(images).max())
    except Exception:  # JAX and rules of users raise many kinds without a derivative
        return float("nan")
    return math.inf if math.isnan(largest) else largest


def _row_of_noise(key: Array, like: Array, index: Array) -> Array:
    """Draw a cotangent that is zero in all rows but one."""
    shape = (len(like),) + (1,) * (like.ndim - 1)
    chosen = (jnp.arange(len(like)) == index).reshape(shape)
    return jnp.where(chosen, jax.random.normal(key, like.shape, like.dtype), 0)


def _changed_by_others(function, images: Array, outputs: Any, rows: list[int]) -> float:
    """Replace the others by noise, by each other, and by copies of row i."""
    size, largest = len(images), 0.0
    drawn = jax.random.normal(jax.random.key(1), images.shape)
    # In the images' dtype: in another one the function would round differently.
    noise = (images.std() * drawn).astype(images.dtype)
    for row in rows:
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
    return max((_apart(x[row], y[row]) for x, y in pairs), default=0.0)


def _apart(a: np.ndarray | np.generic, b: np.ndarray | np.generic) -> float:
    """Return the largest difference; inf if only one is NaN, or if rounding hides it.

    Numbers are compared as float64 or complex128: booleans have no difference, and
    that of unsigned integers is never negative.
    """
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    wide = complex if np.iscomplexobj(a) else float
    apart = np.abs(np.asarray(a, wide) - np.asarray(b, wide)).max()
    return float(np.nan_to_num(apart, nan=np.inf)) or math.inf


def _alone(function, images: Array, outputs: Any, rows: list[int]) -> float | None:
    largest = 0.0
    for row in rows:
        try:
            alone = jax.device_get(function(images[row : row + 1]))
        except Exception:  # such as a reshape to a fixed size, or an assertion
            return None
        pairs = zip(jax.tree.leaves(alone), jax.tree.leaves(outputs), strict=True)
        for one, all_rows in pairs:
            scale = float(np.abs(all_rows).max(initial=0)) or 1.0
            apart = _apart(one[0], all_rows[row]) / scale
            largest = max(largest, float(np.nan_to_num(apart, nan=np.inf)))
    return largest
