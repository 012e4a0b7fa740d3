"""Settings of the optimizer, its schedules and the target's moving average."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer, learning-rate schedule and moving average of the target."""

    name: Literal["lars", "sgd", "adamw", "muon"] = "lars"
    """lars has BYOL's order: decay, trust ratio, momentum, then learning rate. muon
    orthogonalizes the update of each kernel; adam with Nesterov's rule updates biases
    and scales."""
    momentum: float = 0.9
    """Momentum of lars, sgd and muon's kernels; decay of the first moment in adamw. The
    Adam that moves muon's other arrays always has 0.9."""
    weight_decay: float = 1e-6
    """Weight decay of kernels."""
    bias_weight_decay: float = 0.0
    """Weight decay of biases and of the norms' scales and offsets (BYOL: 0)."""
    bias_lr_scale: float = 1.0
    """Factor on the learning rate of biases, scales and offsets."""
    predictor_lr_scale: float = 1.0
    """Factor on the learning rate of the predictor: lambda in P1 Table 21."""
    projector_lr_scale: float = 1.0
    """Factor on the learning rate of the projector: mu in P1 Table 22."""
    predictor_schedule: Literal["as_rest", "constant"] | None = None
    """constant: the predictor's rate stays at the peak, without warm-up or decay.
    None: constant for simsiam, as_rest for other objectives."""
    trust_coefficient: float = 1e-3
    """Trust coefficient (eta) of LARS."""
    lars_clip: bool = False
    """lars: limit the update of each kernel to that of SGD (as solo-learn)."""
    warmup_epochs: float = 1.0
    """Epochs in which the learning rate rises linearly from 0."""
    tau_base: float = 0.99
    """tau at step 0. A step keeps this share of the target's parameters."""
    tau_schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: tau rises to 1 over the run. constant: tau stays at tau_base."""


MUON = OptimConfig(
    name="muon", momentum=0.95, weight_decay=1e-5, tau_schedule="constant"
)
"""Muon as chosen in experiments/recipe_search.

There it was the best of three optimizers, for bn and for gn_ws.
"""
