"""Optimizers that suit a norm, as chosen in experiments/recipe_search.

A recipe belongs to a norm. Without batch statistics the direction that all images share
learns fastest, and under SGD it came to dominate. Muon moves all directions at the same
rate. In short runs it is the best of the tried optimizers for both norms.
"""

import dataclasses
from typing import Any, NamedTuple

from byol_bnfree.config import MUON, Norm, OptimConfig, TrainConfig


class Recipe(NamedTuple):
    """The settings that differ between norms."""

    base_lr: float
    """The peak learning rate is this value times batch_size / 256."""
    optim: OptimConfig


LONG = 20
"""Epochs from which Muon's kernels need more weight decay: the length of the trials.

Shorter runs gained 0.5 to 2 points too, but only test images showed it.
"""


def muon(norm: Norm, epochs: float, **fields: Any) -> OptimConfig:
    """Return Muon with the weight decay that suits a norm and a length.

    Kernels hardly decay in `MUON` and grow 20-fold in 20 epochs, which slows the
    learning. Longer runs decay them by 0.1 (bn) or 0.02 (other norms). These were the
    best trials of 20 epochs of CIFAR-10 on a CPU (experiments/recipe_search, one seed,
    peak rate 0.04). `fields` are further settings.
    """
    if epochs >= LONG:
        fields = {"weight_decay": 0.1 if norm == "bn" else 0.02} | fields
    return dataclasses.replace(MUON, **fields)


def suited(
    config: TrainConfig, norm: Norm, *, bn: Recipe, batch_free: Recipe
) -> TrainConfig:
    """Return `config` with this norm and its recipe. Other settings stay."""
    recipe = bn if norm == "bn" else batch_free
    return dataclasses.replace(
        config, norm=norm, base_lr=recipe.base_lr, optim=recipe.optim
    )
