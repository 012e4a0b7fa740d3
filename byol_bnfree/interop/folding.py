"""Converts a trained encoder to its plainest form, which any framework can run.

Standardized kernels become plain kernels. BatchNorm's running statistics are corrected
for their start at zero. The features stay the same.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from byol_bnfree.config import Norm, TrainConfig
from byol_bnfree.interop.trees import flat, nested
from byol_bnfree.models.standardize import weight_standardize
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.training.running_stats import settled

PLAIN: dict[Norm, Norm] = {"gn_ws": "gn", "ws": "none"}
"""Maps a norm to the norm of the same network without weight standardization."""


def alone(config: TrainConfig, *, plain: bool = False) -> TrainConfig:
    """Return the settings that describe a run's encoder alone, computed in float32.

    `plain` describes it without standardized kernels.
    """
    norm, model = part_norms(config)["encoder"], config.model
    if plain:  # folded kernels hold the scale of unit kernels
        norm = PLAIN.get(norm, norm)
        model = dataclasses.replace(model, unit_kernels=False)
    return TrainConfig(
        norm=norm,
        dataset=config.dataset,
        compute_dtype="float32",
        model=model,
        augment=config.augment,
        data=config.data,
    )


def folded(variables: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """Return the variables in plain form, as NumPy arrays.

    Args:
      variables: variables of the encoder of `config`.
      config: the settings; `alone(config, plain=True)` describes the result.
    """
    params = flat(variables["params"])
    if part_norms(config)["encoder"] in PLAIN and config.model.standardize_conv:
        unit = config.model.unit_kernels
        params = {
            name: standardized(value, unit) if name.endswith("/kernel") else value
            for name, value in params.items()
        }
    plain = {"params": nested({n: np.asarray(v) for n, v in params.items()})}
    if "batch_stats" in variables:
        stats = flat(settled(variables["batch_stats"]))
        plain["batch_stats"] = nested({n: np.asarray(v) for n, v in stats.items()})
    return plain


def standardized(kernel: Any, unit: bool) -> np.ndarray:
    """Return the kernel that a convolution uses, as its settings standardize it."""
    fan_in = math.prod(kernel.shape[:-1])
    return np.asarray(weight_standardize(kernel)) * (math.sqrt(fan_in) if unit else 1.0)
