"""Optimizers that suit a norm, as chosen in experiments/recipe_search.

A recipe belongs to a norm. SGD and LARS suit BatchNorm. Without batch statistics they
let the direction that all images share dominate, because it learns fastest. Muon moves
all directions at the same rate.
"""

import dataclasses
from typing import NamedTuple

from byol_bnfree.config import MUON, Norm, OptimConfig, TrainConfig


class Recipe(NamedTuple):
    """The settings that differ between norms."""

    base_lr: float
    """The peak learning rate is this value times batch_size / 256."""
    optim: OptimConfig


DEEPMIND = Recipe(4.0, OptimConfig())
"""LARS as in DeepMind's code, with a rate that suits the generated shapes."""


def suited(
    config: TrainConfig, norm: Norm, *, bn: Recipe, batch_free: Recipe
) -> TrainConfig:
    """Return `config` with this norm and its recipe. Other settings stay."""
    recipe = bn if norm == "bn" else batch_free
    return dataclasses.replace(
        config, norm=norm, base_lr=recipe.base_lr, optim=recipe.optim
    )


def shapes(norm: Norm = "gn_ws") -> TrainConfig:
    """Return the default recipe of `python -m byol_bnfree.train`: generated shapes."""
    batch_free = Recipe(TrainConfig.base_lr, MUON)
    return suited(TrainConfig(), norm, bn=DEEPMIND, batch_free=batch_free)
