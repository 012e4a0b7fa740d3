"""The result of a protocol, and the figures of a classifier."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from byol_bnfree.evaluation.kept.fitted import Fitted
from byol_bnfree.evaluation.methods.metrics import top_k_accuracy


class Outcome(NamedTuple):
    """The result of a protocol; `chosen` was picked on images held out of training."""

    figures: dict[str, Any]
    """Fractions, of the test split."""
    chosen: dict[str, Any]
    """Hyper-parameters and `validation_METRIC`; {} where nothing is chosen."""
    sweep: Sequence[dict[str, Any]] = ()
    """The candidates: each with its own `validation_METRIC`."""
    fitted: Fitted | None = None
    """The classifier that the figures are of; None where there is none to keep."""


def top_figures(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """Top-1 and top-5, fractions."""
    return {f"top{k}": top_k_accuracy(scores, labels, k) for k in (1, 5)}
