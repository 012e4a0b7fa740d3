"""Does the output for one example depend on other examples of the batch?

Two kinds of checks answer this. The check in `numerical.py` takes derivatives and exact
comparisons on given images. The checks in `static.py` and `derivatives.py` analyse the
traced jaxpr. They hold for all images of the same shape.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.diagnostics.derivatives import gradient_independence
from byol_bnfree.diagnostics.modules import as_checked, in_sentences
from byol_bnfree.diagnostics.numerical import (
    NumericalReport,
    numerical_independence,
)
from byol_bnfree.diagnostics.static import (
    StaticReport,
    batch_size,
    static_independence,
    stored_examples,
)
from byol_bnfree.errors import InputError


@dataclass(frozen=True)
class IndependenceReport:
    """The results of all checks. It prints as a table."""

    numerical: NumericalReport
    static: StaticReport
    """Static check of the forward program."""
    backward: StaticReport | None
    """Static check of the images' gradients, and of the values that go with them.

    "no gradient" if the values are independent and no gradient reaches the images; a
    custom backward rule is then not examined. None if an output has no derivative and
    the others have no fault.
    """
    kept: tuple[str, ...] = ()
    """Variables that store something of the images for later batches, such as running
    statistics: "batch_stats/norm/mean". Parameters are not changed."""

    @property
    def holds(self) -> bool:
        """True if the outputs for an image depend on no other image.

        Row i of the values and of the gradients depends on image i only, and nothing of
        an image is kept for later batches. Gradients that do not exist (`backward` is
        None) or do not reach the images ("no gradient") do not count: the values are
        independent then, and the printed report says so.
        """
        return self.numerical.holds and self._proven and not self.kept

    @property
    def _proven(self) -> bool:
        reports = [self.static] + ([self.backward] if self.backward else [])
        faults = ("mixes examples", "not proven")
        return not any(report.verdict in faults for report in reports)

    def __str__(self) -> str:
        return as_table(self)


def batch_independence(
    function: Any,
    images: Any,
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
      images: two or more images [b ...], floats. The proof takes a whole batch; the
        numbers are measured on at most 32 of its rows.
      *args: further arguments, such as a module's `train`. Arrays among them are
        constants that belong to no example, so none may have one row per image. Close
        over such a constant. Give a second input together with the first, in one array.
      variables: of a Linen module; None initializes it.
      rngs: random keys of a Linen module, such as `{"dropout": jax.random.key(0)}`, or
        one key for all. In numbers every call gets the same keys. The proof holds for
        all keys, and for all variables of the same shapes.
      **kwargs: further keyword arguments, such as a module's `train`.

    Returns:
      A report that prints as a table. `report.holds` is the answer.

    Raises:
      InputError: for fewer than two images, images that are no finite numbers, an
        output that is not numbers [b ...], a further argument [b ...], a module that
        draws random numbers without `rngs`, one that does not take `variables`, or a
        function that cannot be called or that JAX cannot trace.
    """
    images = _as_array(images)
    with in_sentences():
        checked = as_checked(function, images, args, kwargs, variables, rngs)
        static = static_independence(checked.outputs, images, *checked.fixed)
        backward = gradient_independence(checked.outputs, images, *checked.fixed)
        numerical = numerical_independence(
            lambda images: checked.outputs(images, *checked.fixed), images
        )
        kept = stored_examples(checked.kept, checked.fixed, images)
    return IndependenceReport(numerical, static, backward, kept)


def _as_array(images: Any) -> Float[Array, "..."]:
    try:
        array = jnp.asarray(images)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"images must be an array [b ...], but this {type(images).__name__} has no "
            f"single shape; stack images of equal size."
        ) from error
    batch_size(array)
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended):
        raise InputError(
            f"images are {array.dtype}, random keys that are no numbers; give numbers "
            f"[b ...], such as jax.random.key_data of the keys."
        )
    if not (isinstance(array, jax.core.Tracer) or jnp.isfinite(array).all()):
        raise InputError(
            "images hold NaN or infinity, which say nothing about the function; give "
            "finite numbers."
        )
    return array


def as_table(report: IndependenceReport) -> str:
    """Format one line per check: what it examined, its result, and the reason."""
    numbers, absent = report.numerical, "no derivative"
    derivative, alone, limit = numbers.cross_derivative, numbers.alone, numbers.limit
    rows = [
        ("on these images", "derivatives by other images")
        + (("not measured", absent) if math.isnan(derivative) else _zero(derivative)),
        ("", "change if others are exchanged") + _zero(numbers.changed_by_others),
        ("", "change if an image is alone")
        + (
            ("not measured", "no batch of one, or random draws")
            if alone is None
            else (_word(alone <= limit), f"{alone:.1e}, at most {limit:.0e}")
        ),
        ("for all images", "outputs") + _verdict(report.static),
        ("", "gradients")
        + (_verdict(report.backward) if report.backward else ("not proven", absent)),
        ("", "nothing kept for later batches")
        + (_word(not report.kept), ", ".join(report.kept)),
    ]
    lines = [f"{a:<16} {b:<31} {c:<14} {d}".rstrip() for a, b, c, d in rows]
    if numbers.unexamined:
        lines.append(f"The numbers leave out {numbers.unexamined} rows of the batch.")
    return "\n".join([*lines, _answer(report)])


def _answer(report: IndependenceReport) -> str:
    """Return the verdict in one sentence."""
    values = "The values of the examples are independent"
    if report.holds and report.backward is None:
        return f"{values}; their gradients are not proven."
    if report.holds and report.backward.verdict == "no gradient":
        return f"{values}; no gradient reaches the images."
    if report.holds:
        return "The examples of the batch are independent."
    if report._proven and report.numerical.holds:
        return "The outputs are NOT independent of the examples of earlier batches."
    return "The examples of the batch are NOT independent, or not proven."


def _word(holds: bool) -> str:
    return "holds" if holds else "FAILS"


def _zero(number: float) -> tuple[str, str]:
    return _word(number == 0), f"{number:.1e}, must be 0"


def _verdict(report: StaticReport) -> tuple[str, str]:
    words = {"independent": "holds", "mixes examples": "FAILS"}
    if report.verdict == "no gradient":
        return "none", "no gradient reaches the images"
    reasons = [*map(str, report.places[:2])]
    more = len(report.places) - len(reasons)
    reasons += [f"and {more} more places"] * (more > 0)
    verdict = report.verdict
    return words.get(verdict, verdict), "; ".join(reasons)
