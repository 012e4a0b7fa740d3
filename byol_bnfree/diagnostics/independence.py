"""Does the output for one example depend on other examples of the batch?

Two checks answer this. The check in `numerical.py` takes derivatives and exact
comparisons on given images. The check in `static.py` analyses the traced jaxpr. It
holds for all images of the same shape.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.diagnostics.modules import as_function
from byol_bnfree.diagnostics.numerical import (
    ROUNDING,
    NumericalReport,
    numerical_independence,
)
from byol_bnfree.diagnostics.static import (
    StaticReport,
    gradient_independence,
    static_independence,
)


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
        ("", "derivatives by other images")
        + (("not measured", absent) if math.isnan(derivative) else _zero(derivative)),
        ("on these", "change if others are exchanged")
        + _zero(numbers.changed_by_others),
        ("images", "change if an image is alone")
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
