"""Does the output for one example depend on other examples of the batch?

Two checks answer this. The numerical check takes derivatives and exact comparisons on
given images. The static check analyses the traced jaxpr and holds for all images of the
same shape.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.diagnostics.modules import as_function
from byol_bnfree.diagnostics.static import (
    StaticReport,
    check_rows,
    gradient_independence,
    static_independence,
)

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


@dataclass(frozen=True)
class IndependenceReport:
    """The results of all checks. It prints as a table."""

    numerical: NumericalReport
    static: StaticReport
    """Static check of the forward program."""
    backward: StaticReport | None
    """Static check of the images' gradients; None without a derivative."""

    @property
    def holds(self) -> bool:
        """True if row i depends on image i only, in values and in gradients."""
        reports = [self.static] + ([self.backward] if self.backward else [])
        proven = all(report.verdict == "independent" for report in reports)
        return self.numerical.holds and proven

    def __str__(self) -> str:
        return as_table(self)


def batch_independence(
    function: Callable[..., Any] | nn.Module,
    images: Float[Array, "b ..."],
    *args: Any,
    variables: Any = None,
    rngs: Any = None,
    **kwargs: Any,
) -> IndependenceReport:
    """Check that row i of a function's outputs depends on image i only.

    Args:
      function: called as `function(images, *args, **kwargs)`. It returns an array
        [b ...] or a tree of them. It may also be a Linen or NNX module, whose
        statistics may change as in training. An NNX module is not modified.
      images: two or more images [b ...], floats.
      *args: further arguments, such as a module's `train`.
      variables: of a Linen module; None initializes it.
      rngs: random keys of a Linen module, such as `{"dropout": jax.random.key(0)}`.
        Every call gets the same keys.
      **kwargs: further keyword arguments, such as a module's `train`.

    Returns:
      A report that prints as a table. `report.holds` is the answer.

    Raises:
      InputError: for fewer than two images, an output that is not [b ...], or a module
        that draws random numbers without `rngs`.
    """
    called = as_function(function, images, args, kwargs, variables, rngs)
    static = static_independence(called, images)
    backward = gradient_independence(called, images)
    return IndependenceReport(numerical_independence(called, images), static, backward)


def as_table(report: IndependenceReport) -> str:
    """Format one line per check: what it examined, its result, and the reason."""
    numbers, absent = report.numerical, "no derivative"
    derivative, alone = numbers.cross_derivative, numbers.alone
    rows = [
        ("", "derivative of a row by other images")
        + (("not measured", absent) if math.isnan(derivative) else _zero(derivative)),
        ("on these", "change of a row by other images")
        + _zero(numbers.changed_by_others),
        ("images", "change of a row that is alone")
        + (
            ("not measured", "no batch of one, or random draws")
            if alone is None
            else (_word(alone <= ROUNDING), f"{alone:.1e}, at most {ROUNDING:.0e}")
        ),
        ("for all", "outputs") + _verdict(report.static),
        ("images", "gradients")
        + (_verdict(report.backward) if report.backward else ("not proven", absent)),
    ]
    answer = "independent" if report.holds else "NOT independent, or not proven"
    lines = [f"{a:<9} {b:<36} {c:<14} {d}".rstrip() for a, b, c, d in rows]
    return "\n".join([*lines, f"The examples of the batch are {answer}."])


def _word(holds: bool) -> str:
    return "holds" if holds else "FAILS"


def _zero(number: float) -> tuple[str, str]:
    return _word(number == 0), f"{number:.1e}, must be 0"


def _verdict(report: StaticReport) -> tuple[str, str]:
    words = {"independent": "holds", "mixes examples": "FAILS"}
    reasons = [*map(str, report.places[:2])]
    more = len(report.places) - len(reasons)
    reasons += [f"and {more} more places"] * (more > 0)
    verdict = report.verdict
    return words.get(verdict, verdict), "; ".join(reasons)


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
        return float(derivatives(images).max())
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
            scale = np.abs(all_rows).max() or 1.0
            largest = max(largest, float(np.abs(one[0] - all_rows[row]).max() / scale))
    return largest
