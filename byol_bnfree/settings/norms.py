"""The norm of each part of a network."""

from typing import Any

from byol_bnfree.settings.names import Norm


def part_norms(config: Any) -> dict[str, Norm]:
    """Return the norm of each part. No other function decides this."""
    return {
        "encoder": config.encoder_norm or config.norm,
        "projector": config.projector_norm or config.norm,
        "predictor": config.predictor_norm or config.norm,
    }
