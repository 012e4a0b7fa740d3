"""A trained encoder in its plainest form, so that any framework can run it.

Standardized kernels become plain ones, and BatchNorm's running values are corrected
for their zero start. The features stay the same.
"""

from typing import Any

import numpy as np

from byol_bnfree.config import Norm, TrainConfig
from byol_bnfree.interop.trees import flat, nested
from byol_bnfree.models.byol import part_norms
from byol_bnfree.models.running_stats import settled
from byol_bnfree.models.standardize import weight_standardize

PLAIN: dict[Norm, Norm] = {"gn_ws": "gn", "ws": "none"}
"""The norm of the same network without weight standardization."""


def alone(config: TrainConfig, *, plain: bool = False) -> TrainConfig:
    """What describes the encoder of a run; `plain`: without standardized kernels."""
    norm = part_norms(config)["encoder"]
    return TrainConfig(
        norm=PLAIN.get(norm, norm) if plain else norm,
        dataset=config.dataset,
        model=config.model,
        augment=config.augment,
        data=config.data,
    )


def folded(variables: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """The variables of the plain form, as NumPy arrays.

    Args:
      variables: of the encoder of `config`; `alone(config, plain=True)` describes the
        result.
    """
    params = flat(variables["params"])
    if part_norms(config)["encoder"] in PLAIN and config.model.standardize_conv:
        params = {
            name: weight_standardize(value) if name.endswith("/kernel") else value
            for name, value in params.items()
        }
    plain = {"params": nested({n: np.asarray(v) for n, v in params.items()})}
    if "batch_stats" in variables:
        stats = flat(settled(variables["batch_stats"]))
        plain["batch_stats"] = nested({n: np.asarray(v) for n, v in stats.items()})
    return plain
