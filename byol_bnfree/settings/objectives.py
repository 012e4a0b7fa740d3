"""Settings of the objectives, one class for each."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BYOLConfig:
    """Details of --objective byol."""

    loss_normalization: Literal["l2", "layernorm", "batchnorm", "none"] = "l2"
    """Normalization of predictions and targets in the loss (P1 Table 20). batchnorm
    uses batch statistics, whatever --norm is."""
    predictor: Literal["network", "closed_form"] = "network"
    """closed_form: the linear map that best fits the targets of the batch (P1, section
    5). It uses statistics of the batch."""


@dataclass(frozen=True)
class InfoNCEConfig:
    """Details of --objective infonce, P1's equation 6; the defaults are SimCLR."""

    predictor: bool = False
    """Compare predictions with the targets, instead of projections."""
    target: Literal["moving_average", "stop_gradient", "none"] = "none"
    """moving_average: the target network. stop_gradient: the online projections as
    constants. none: the online projections, with their gradient."""
    beta: float = 1.0
    """Weight of the negatives. 0 with predictor and target network is BYOL."""
    alpha: float = 0.1
    """Temperature of the negatives."""


@dataclass(frozen=True)
class MoCoConfig:
    """Details of --objective moco_v2."""

    queue: int = 4096
    """Number of negative keys; a multiple of twice the batch size."""
    temperature: float = 0.2
    """Temperature of the cosines (MoCo v2)."""


@dataclass(frozen=True)
class BarlowTwinsConfig:
    """Details of --objective barlow_twins."""

    redundancy: float = 0.0051
    """Weight of the correlations between different features: lambda in the paper."""
