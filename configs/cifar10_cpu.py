"""CIFAR-10 on two CPU cores: resnet14 of 16, 32, 64 channels. Argument: epochs.

    python -m byol_bnfree.data prepare cifar10 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/cifar10_cpu.py --data-dir=DIR --norm=bn
    python -m byol_bnfree.train --config=configs/cifar10_cpu.py:100 --data-dir=DIR \\
        --norm=gn_ws

The optimizer is the one that suits the norm, chosen by experiments/recipe_search: Muon
without batch statistics, SGD as lightly uses it for bn. The target's tau is 0.99
throughout. There is no blur (a 3-pixel kernel at 32 px). The stem's stride of 2
quarters the cost.

The cpu scale of `python -m experiments` is 16 epochs. docs/results.md has its figures.
"""

from byol_bnfree.config import (
    MUON,
    AugmentConfig,
    HeadConfig,
    InputError,
    ModelConfig,
    Norm,
    OptimConfig,
    TrainConfig,
    ViewConfig,
)
from byol_bnfree.recipes import Recipe, suited

SGD = OptimConfig(name="sgd", weight_decay=5e-4, tau_schedule="constant")


def get_config(epochs: str = "16", norm: Norm = "gn_ws") -> TrainConfig:
    """All 50,000 images, batches of 256."""
    if not epochs.isdecimal() or int(epochs) < 1:
        raise InputError(f"epochs is {epochs!r}; give a whole number of 1 or more.")
    head = HeadConfig(hidden=1024, out=256)
    config = TrainConfig(
        dataset="cifar10",
        batch_size=256,
        epochs=float(epochs),
        model=ModelConfig(
            name="resnet14",
            width=1.0,
            stem="small",
            stem_stride=2,
            projector=head,
            predictor=head,
        ),
        augment=AugmentConfig(
            view1=ViewConfig(blur=0.0), view2=ViewConfig(blur=0.0, solarize=0.2)
        ),
    )
    return suited(config, norm, bn=Recipe(0.12, SGD), batch_free=Recipe(0.04, MUON))
