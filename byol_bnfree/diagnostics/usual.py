"""The usual first steps of a norm, said beside a warning of collapse."""

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
    """One or two sentences for the norms of the parts of a network."""
    everywhere = all(norm == "bn" for norm in norms.values())
    return WITH_BATCH_STATISTICS if everywhere else WITHOUT
