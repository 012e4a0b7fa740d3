"""BYOL in JAX and Flax whose normalization is a choice.

BatchNorm is vanilla BYOL (arXiv 2006.07733); GroupNorm with Weight Standardization
uses no batch statistics (arXiv 2010.10241). Train with `python -m byol_bnfree.train`
or `train(TrainConfig(...))`, take an encoder with `create_encoder` or `load_encoder`.
"""

from byol_bnfree.command_line import load_config, parse_args
from byol_bnfree.config import (
    AugmentConfig,
    DataConfig,
    EvalConfig,
    HeadConfig,
    ModelConfig,
    Norm,
    OptimConfig,
    RunConfig,
    TrainConfig,
    ViewConfig,
)
from byol_bnfree.data.augment import two_views
from byol_bnfree.errors import InputError, RunStopped
from byol_bnfree.losses import byol_loss, regression_loss
from byol_bnfree.models.byol import BYOLNetwork, create_network
from byol_bnfree.models.heads import MLPHead
from byol_bnfree.models.norm import (
    Layers,
    StdConv,
    StdDense,
    layers_for,
    weight_standardize,
)
from byol_bnfree.models.resnet import ResNet, create_encoder
from byol_bnfree.pretrained import Encoder, load_encoder
from byol_bnfree.pretraining import train
from byol_bnfree.training.ema import ema_update
from byol_bnfree.training.optim import make_optimizer
from byol_bnfree.training.state import TrainState
from byol_bnfree.training.step import make_train_step

__all__ = [
    "AugmentConfig",
    "BYOLNetwork",
    "DataConfig",
    "Encoder",
    "EvalConfig",
    "HeadConfig",
    "InputError",
    "Layers",
    "MLPHead",
    "ModelConfig",
    "Norm",
    "OptimConfig",
    "ResNet",
    "RunConfig",
    "RunStopped",
    "StdConv",
    "StdDense",
    "TrainConfig",
    "TrainState",
    "ViewConfig",
    "byol_loss",
    "create_encoder",
    "create_network",
    "ema_update",
    "layers_for",
    "load_config",
    "load_encoder",
    "make_optimizer",
    "make_train_step",
    "parse_args",
    "regression_loss",
    "train",
    "two_views",
    "weight_standardize",
]
