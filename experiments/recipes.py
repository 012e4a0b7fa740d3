"""Flags of arms that several experiments share.

The recipe's config file has the settings for each norm, so an arm only names its norm.
"""

from experiments.parsing import parsed
from experiments.scales import Scale

BN = ("--norm=bn",)
"""BatchNorm in every part."""

GN_WS = ("--norm=gn_ws",)
"""GroupNorm and standardized kernels in every part, without batch statistics."""

SGD = (
    "--optim.name=sgd",
    "--optim.momentum=0.9",
    "--optim.weight-decay=5e-4",
    "--optim.tau-schedule=constant",
    "--base-lr=0.24",
)
"""SGD with momentum, at the better of the two rates that we tried for bn."""

SIMCLR = ("--objective=infonce",)
"""SimCLR: InfoNCE without a predictor and without a target network."""


def bridge(
    predictor: bool, target: str, beta: float, alpha: float = 0.1
) -> tuple[str, ...]:
    """Return the flags of a point between BYOL and SimCLR (arXiv 2006.07733, eq. 6).

    The end points have the settings of `--objective byol` and of `SIMCLR`. Their runs
    are therefore shared with other experiments.
    """
    if predictor and target == "moving_average" and beta == 0:
        return ()
    settings = (
        f"--infonce.{'' if predictor else 'no-'}predictor",
        f"--infonce.target={target}",
        f"--infonce.beta={beta:g}",
        f"--infonce.alpha={alpha:g}",
    )
    return (*SIMCLR, *settings)


def lars(
    scale: Scale,
    epochs: int = 300,
    tau_schedule: str = "cosine",
    trust: float = 0.001,
    base_lr: float | None = None,
) -> tuple[str, ...]:
    """Return BYOL's optimizer with DeepMind's values for Imagenette or ImageNet.

    On ImageNet the rate and the decay are those of the preset of that many epochs. The
    target's tau rises to 1, as in the paper, unless its schedule is "constant".
    `trust` and `base_lr` replace the trust coefficient and the rate.
    """
    usual, decay = (2.0, 1e-6) if scale.name != "paper" else _imagenet(scale, epochs)
    return (
        "--optim.name=lars",
        "--optim.momentum=0.9",
        f"--optim.weight-decay={decay}",
        f"--optim.trust-coefficient={trust}",
        f"--optim.tau-schedule={tau_schedule}",
        f"--base-lr={usual if base_lr is None else base_lr}",
    )


def _imagenet(scale: Scale, epochs: int) -> tuple[float, float]:
    """Return base learning rate and weight decay of BatchNorm's recipe."""
    recipe = parsed((*scale.flags(epochs), *BN))
    return recipe.base_lr, recipe.optim.weight_decay
