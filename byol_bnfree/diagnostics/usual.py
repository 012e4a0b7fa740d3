"""Advice that goes with a collapse warning, depending on the norm."""

from collections.abc import Mapping

WITH_BATCH_STATISTICS = (
    "That is unusual with BatchNorm: lower --base-lr or lengthen --optim.warmup-epochs."
)
WITHOUT = (
    "Without batch statistics the spread often falls in the first steps and grows "
    "again within four epochs. If it does not, lower --base-lr, or "
    "--optim.bias-lr-scale if the optimizer is not Muon."
)


def usual(norms: Mapping[str, str]) -> str:
    """Return one or two sentences of advice for the norms of a network's parts."""
    everywhere = all(norm == "bn" for norm in norms.values())
    return WITH_BATCH_STATISTICS if everywhere else WITHOUT
