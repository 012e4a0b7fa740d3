"""The result of a protocol, and the accuracies of a classifier."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from byol_bnfree.evaluation.kept.fitted import Fitted
from byol_bnfree.evaluation.methods.metrics import top_k_accuracy

PLAIN = {"rel": " rel", "rms": " m"}  # figures that are no shares, and their units


class Outcome(NamedTuple):
    """The result of a protocol. Held-out training images decided on `chosen`."""

    figures: dict[str, Any]
    """Results on the test split, in [0, 1], but for those in `PLAIN`."""
    chosen: dict[str, Any]
    """Hyper-parameters and `validation_METRIC`; {} if nothing was chosen."""
    sweep: Sequence[dict[str, Any]] = ()
    """All candidates, each with its `validation_METRIC`."""
    fitted: Fitted | None = None
    """The classifier behind the results; None if there is none to save."""


def ends_of_ranges(
    chosen: dict[str, Any], sweep: Sequence[dict[str, Any]]
) -> str | None:
    """Return a sentence about chosen values at an end of what was tried, or None.

    Values beyond that end may be better. Below 0 there are none.
    """
    found = []
    for name, value in chosen.items():
        tried = {point[name] for point in sweep if name in point}
        if name.startswith("validation_") or len(tried) < 2:
            continue
        what = f"{name.replace('_', ' ')} {value:g}"
        if value == max(tried):
            found.append(f"{what} is the highest that was tried")
        elif value == min(tried) and value > 0:
            found.append(f"{what} is the lowest that was tried")
    if not found:
        return None
    return f"the best {' and the best '.join(found)}; others may be better."


def top_figures(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """Return top-1 accuracy in [0, 1], and with more than five classes top-5 too.

    With five classes or fewer, top-5 would always be 1.
    """
    shown = (1, 5) if scores.shape[1] > 5 else (1,)
    return {f"top{k}": top_k_accuracy(scores, labels, k) for k in shown}
