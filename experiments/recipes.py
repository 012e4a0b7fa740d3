"""Flags of the arms that several experiments share.

A recipe's config file gives the settings that suit the norm, so an arm is its norm.
"""

from experiments.scales import Scale

BN = ("--norm=bn",)
"""BatchNorm in every part."""

GN_WS = ("--norm=gn_ws",)
"""GroupNorm and standardized kernels in every part: no batch statistics anywhere."""

SGD = (
    "--optim.name=sgd",
    "--optim.momentum=0.9",
    "--optim.weight-decay=5e-4",
    "--optim.tau-schedule=constant",
    "--base-lr=0.24",
)
"""As lightly trains bn on CIFAR-10, at the better of the two rates that were tried."""


SIMCLR = ("--objective=infonce",)
"""SimCLR: InfoNCE without predictor and target network."""


def bridge(
    predictor: bool, target: str, beta: float, alpha: float = 0.1
) -> tuple[str, ...]:
    """A place between BYOL and SimCLR (arXiv 2006.07733, equation 6).

    The ends have the settings of `--objective byol` and of `SIMCLR`, so that their runs
    are those of other experiments.
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


def lars(scale: Scale) -> tuple[str, ...]:
    """BYOL's own optimizer: DeepMind's values for Imagenette, or for ImageNet."""
    return (
        "--optim.name=lars",
        "--optim.momentum=0.9",
        "--optim.weight-decay=1e-6",
        "--optim.trust-coefficient=1e-3",
        "--optim.tau-schedule=cosine",
        f"--base-lr={0.3 if scale.name == 'paper' else 2.0}",
    )
