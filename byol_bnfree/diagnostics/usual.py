"""Advice that goes with a collapse warning, depending on the norm."""

from collections.abc import Mapping

WITH_BATCH_STATISTICS = (
    "That is unusual with BatchNorm: lower --base-lr or lengthen --optim.warmup-epochs."
)
WITHOUT = (
    "Without batch statistics the spread often falls in the first steps and grows "
    "again soon after warm-up. If it does not, biases may move too fast: lower "
    "--optim.bias-lr-scale or --base-lr."
)


def usual(norms: Mapping[str, str]) -> str:
    """Return one or two sentences of advice for the norms of a network's parts."""
    everywhere = all(norm == "bn" for norm in norms.values())
    return WITH_BATCH_STATISTICS if everywhere else WITHOUT
