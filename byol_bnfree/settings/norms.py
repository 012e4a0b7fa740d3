"""The norm of each part of a network, and the groups of batch statistics."""

from typing import Any

from byol_bnfree.settings.names import Norm


def part_norms(config: Any) -> dict[str, Norm]:
    """Return the norm of each part. No other function decides this."""
    return {
        "encoder": config.encoder_norm or config.norm,
        "projector": config.projector_norm or config.norm,
        "predictor": config.predictor_norm or config.norm,
    }


def groups_of_micro_batch(config: Any) -> int:
    """Return the number of groups of statistics in a micro-batch.

    A micro-batch has its share of the groups. Norms without groups have the number 1,
    of which the share would be 0.
    """
    return config.bn_stat_groups // config.micro_batches or 1
