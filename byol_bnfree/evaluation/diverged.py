"""Fits that diverged: none is chosen, and no figure of one is reported."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from byol_bnfree.errors import InputError


class FitDiverged(InputError):
    """The numbers of a fit are no longer finite."""


def check_finite(arrays: PyTree, fit: str) -> None:
    """Raise `FitDiverged` if a number is infinite or NaN; `fit` names it with its rate.

    The numbers may be the parameters of a network, its statistics or its outputs.
    """
    if not all(map(_finite, jax.tree.leaves(arrays))):
        raise diverged(fit)


def diverged(fit: str) -> FitDiverged:
    """Return the error of a fit, which `fit` names with its rate."""
    return FitDiverged(
        f"{fit} diverged: its numbers are no longer finite; give lower rates."
    )


def best_of(figures: Sequence[float | None], *, least: bool = False) -> int:
    """Return the place of the best figure, the first of equal ones.

    A fit that diverged has the figure None. It is never the best, whatever the others.

    Raises:
      InputError: if all fits diverged.
    """
    there = [place for place, figure in enumerate(figures) if figure is not None]
    if not there:
        raise FitDiverged(
            f"all {len(figures)} fits that choose the learning rate diverged: their "
            f"numbers are no longer finite; give lower rates."
        )
    order = min if least else max
    return order(there, key=lambda place: figures[place])


def in_words(figure: float | None, digits: str = ".4f") -> str:
    """Format the figure of a fit."""
    return "diverged" if figure is None else format(figure, digits)


def _finite(array: Any) -> bool:
    return bool(np.isfinite(np.asarray(array)).all())
