"""BYOL in JAX and Flax. Its normalization is one argument.

BatchNorm gives vanilla BYOL (P1, arXiv 2006.07733). GroupNorm with Weight
Standardization uses no batch statistics (P2, arXiv 2010.10241). Train with `python -m
byol_bnfree.train` or `train(TrainConfig(...))`. Get an encoder from `create_encoder` or
`load_encoder`. The classes of the settings are in `byol_bnfree.config`.

`TrainConfig(norm="bn")` and `parse_args(["--norm=bn"])` are the same settings. A recipe
may choose other ones for a norm: `parse_args(["--config=FILE", "--norm=bn"])`.

Names are imported on first use, so `--help` does not wait for JAX.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from byol_bnfree.lazy import importer

__version__ = "0.1.0"

if sys.platform == "win32":
    raise ImportError(
        "byol_bnfree runs on Linux and macOS, but this is Windows; use WSL 2 "
        "(https://learn.microsoft.com/windows/wsl) or another machine."
    )

if TYPE_CHECKING:  # for editors and type checkers; keep it equal to `_HOME`
    from byol_bnfree.assembly import create_network
    from byol_bnfree.command_line import parse_args
    from byol_bnfree.config import Norm, TrainConfig
    from byol_bnfree.config_files import load_config
    from byol_bnfree.data.augment import normalize, two_views
    from byol_bnfree.diagnostics import batch_independence
    from byol_bnfree.encoder import Encoder, load_encoder
    from byol_bnfree.errors import InputError, RunStopped
    from byol_bnfree.evaluation.run import evaluate
    from byol_bnfree.interop.hub import load_pretrained
    from byol_bnfree.losses import byol_loss, regression_loss
    from byol_bnfree.models.byol import BYOLNetwork
    from byol_bnfree.models.encoders import create_encoder
    from byol_bnfree.models.heads import MLPHead
    from byol_bnfree.models.norm import Layers, layers_for
    from byol_bnfree.models.resnet import ResNet
    from byol_bnfree.models.standardize import weight_standardize
    from byol_bnfree.models.standardized_layers import StdConv, StdDense
    from byol_bnfree.training.ema import ema_update
    from byol_bnfree.training.optim import make_optimizer
    from byol_bnfree.training.parts import DataShape, build_parts
    from byol_bnfree.training.state import TrainState
    from byol_bnfree.training.step import (
        Schedules,
        StepOutputs,
        collapse_metrics,
        make_train_step,
    )
    from byol_bnfree.whole_run.run import train

_HOME = {
    "BYOLNetwork": "models.byol",
    "DataShape": "training.parts",
    "Encoder": "encoder",
    "InputError": "errors",
    "Layers": "models.norm",
    "MLPHead": "models.heads",
    "Norm": "config",
    "ResNet": "models.resnet",
    "RunStopped": "errors",
    "Schedules": "training.step",
    "StdConv": "models.standardized_layers",
    "StdDense": "models.standardized_layers",
    "StepOutputs": "training.step",
    "TrainConfig": "config",
    "TrainState": "training.state",
    "batch_independence": "diagnostics",
    "build_parts": "training.parts",
    "byol_loss": "losses",
    "collapse_metrics": "training.step",
    "create_encoder": "models.encoders",
    "create_network": "assembly",
    "ema_update": "training.ema",
    "evaluate": "evaluation.run",
    "layers_for": "models.norm",
    "load_config": "config_files",
    "load_encoder": "encoder",
    "load_pretrained": "interop.hub",
    "make_optimizer": "training.optim",
    "make_train_step": "training.step",
    "normalize": "data.augment",
    "parse_args": "command_line",
    "regression_loss": "losses",
    "train": "whole_run.run",
    "two_views": "data.augment",
    "weight_standardize": "models.standardize",
}
"""Maps a public name to its module."""

__all__ = [
    "BYOLNetwork",
    "DataShape",
    "Encoder",
    "InputError",
    "Layers",
    "MLPHead",
    "Norm",
    "ResNet",
    "RunStopped",
    "Schedules",
    "StdConv",
    "StdDense",
    "StepOutputs",
    "TrainConfig",
    "TrainState",
    "batch_independence",
    "build_parts",
    "byol_loss",
    "collapse_metrics",
    "create_encoder",
    "create_network",
    "ema_update",
    "evaluate",
    "layers_for",
    "load_config",
    "load_encoder",
    "load_pretrained",
    "make_optimizer",
    "make_train_step",
    "normalize",
    "parse_args",
    "regression_loss",
    "train",
    "two_views",
    "weight_standardize",
]


__getattr__ = importer(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `train` and `evaluate` functions after their modules are imported.

    An import sets a submodule as an attribute of its package. Here that would replace
    the function of the same name. The modules have these names for `python -m`.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
