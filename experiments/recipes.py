"""The two arms of every comparison, as recipe_search chose them."""

BN = ("--norm=bn",)
"""BatchNorm everywhere: vanilla BYOL."""

GN_WS = ("--norm=gn_ws", "--projector-norm=ws", "--predictor-norm=ws")
"""GroupNorm and standardized kernels in the encoder, standardized kernels alone in the
heads: no batch statistics anywhere. GroupNorm in the heads costs accuracy."""
