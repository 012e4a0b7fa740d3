"""What an encoder computes beside its weights: `encoder_settings`."""

import dataclasses
from typing import Any

from byol_bnfree.assembly import encoder_name
from byol_bnfree.config import TrainConfig
from byol_bnfree.machine.precision import resolve_dtype
from byol_bnfree.settings.norms import groups_of_micro_batch, part_norms

HEADS = ("projector", "predictor", "predictor_start")
"""Settings of the network that do not belong to its encoder."""


def encoder_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that decide the results of an encoder with given weights.

    Two files may hold equal arrays and differ in padding or in the mean and std of
    pixels. Protocols that train also read the views and the groups of batch statistics.
    """
    model = dataclasses.asdict(config.model)
    return {
        "name": encoder_name(config),
        "norm": part_norms(config)["encoder"],
        "model": {name: model[name] for name in model if name not in HEADS},
        "augment": dataclasses.asdict(config.augment),
        "image_size": config.data.image_size,
        "stat_groups": groups_of_micro_batch(config),
        "dtype": resolve_dtype(config.compute_dtype),
    }
