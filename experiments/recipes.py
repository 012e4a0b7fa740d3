"""The two arms of every comparison, as recipe_search chose them."""

from experiments.scales import Scale

BN = ("--norm=bn",)
"""BatchNorm everywhere: vanilla BYOL."""

GN_WS = ("--norm=gn_ws", "--projector-norm=ws", "--predictor-norm=ws")
"""GroupNorm and standardized kernels in the encoder, standardized kernels alone in the
heads: no batch statistics anywhere. GroupNorm in the heads is level at best."""


def gn_ws(scale: Scale) -> tuple[str, ...]:
    """That, with the optimizer of arms without batch statistics."""
    return (*GN_WS, *scale.batch_free)
