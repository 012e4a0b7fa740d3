"""Optimizers that suit a norm, as experiments/recipe_search chose them.

A recipe belongs to a norm. SGD and LARS suit BatchNorm. In a network without batch
statistics they let the direction that all images share win, because it learns fastest.
Muon moves all directions at the same rate.
"""

import dataclasses
from typing import NamedTuple

from byol_bnfree.config import MUON, Norm, OptimConfig, TrainConfig


class Recipe(NamedTuple):
    """The settings that differ between norms."""

    base_lr: float
    """Peak learning rate is this times batch_size / 256."""
    optim: OptimConfig


DEEPMIND = Recipe(4.0, OptimConfig())
"""LARS as in DeepMind's code, at the rate that suits the generated shapes."""


def suited(
    config: TrainConfig, norm: Norm, *, bn: Recipe, batch_free: Recipe
) -> TrainConfig:
    """`config` with this norm, and with the recipe for it; all else stays."""
    recipe = bn if norm == "bn" else batch_free
    return dataclasses.replace(
        config, norm=norm, base_lr=recipe.base_lr, optim=recipe.optim
    )


def shapes(norm: Norm = "gn_ws") -> TrainConfig:
    """The recipe of `python -m byol_bnfree.train` alone: the generated shapes."""
    batch_free = Recipe(TrainConfig.base_lr, MUON)
    return suited(TrainConfig(), norm, bn=DEEPMIND, batch_free=batch_free)
