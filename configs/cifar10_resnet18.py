"""CIFAR-10, ResNet-18 with the small-image stem, for one GPU. Argument: epochs.

Source: network, batch and length come from lightly's CIFAR-10 benchmark (200 and 800
epochs, batch 512). For BYOL with BatchNorm its table of March 2023 has 86.8 % and
91.0 % kNN (k = 200, best over epochs, one run); that of February 2022 has 87.2 and
91.1 %. The optimizer is Muon. Its peak rate of 0.04 and its weight decay,
0.1 for bn and 0.02 for other norms, were found on CIFAR-10 on a CPU with resnet14
(configs/cifar10_cpu.py). They have not been tried at this size. Augmentation is BYOL's
without blur: a 3-pixel kernel does almost nothing at 32 px. cifar10_lightly.py and
cifar10_sololearn.py train bn as those projects do.

    python -m byol_bnfree.data prepare cifar10 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/cifar10_resnet18.py:200 --norm=gn_ws \\
        --data-dir=DIR

We have not run it to its end yet: it needs a GPU, where 200 epochs take minutes.
"""

from byol_bnfree.config import (
    AugmentConfig,
    HeadConfig,
    ModelConfig,
    Norm,
    TrainConfig,
    ViewConfig,
)
from byol_bnfree.errors import InputError
from byol_bnfree.recipes import muon

WARMUP = {"30": 2.0, "100": 5.0, "200": 10.0, "800": 10.0}  # epochs, by length


def get_config(epochs: str = "200", *, norm: Norm = "gn_ws") -> TrainConfig:
    """Train for 30, 100, 200 or 800 epochs in batches of 512."""
    if epochs not in WARMUP:
        names = ", ".join(WARMUP)
        raise InputError(f"there is no preset of {epochs!r} epochs; choose {names}.")
    head = HeadConfig(hidden=4096, out=256)
    return TrainConfig(
        norm=norm,
        dataset="cifar10",
        batch_size=512,
        base_lr=0.02,
        optim=muon(norm, int(epochs), warmup_epochs=WARMUP[epochs]),
        epochs=float(epochs),
        model=ModelConfig(
            name="resnet18",
            stem="small",
            stem_stride=1,
            projector=head,
            predictor=head,
        ),
        augment=AugmentConfig(
            view1=ViewConfig(blur=0.0), view2=ViewConfig(blur=0.0, solarize=0.2)
        ),
    )
