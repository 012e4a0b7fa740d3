"""CIFAR-10, ResNet-18 with the small-image stem, for one GPU. Argument: epochs.

Source: network, batch and length as in lightly's CIFAR-10 benchmark (200 and 800
epochs, batch 512), which reports 86.8 % and 91.0 % kNN (k 200, best over epochs) for
BYOL with BatchNorm; optimizer and augmentation are BYOL's own (DeepMind's small-scale
recipe for Imagenette: LARS, base learning rate 2.0, weight decay 1e-6), without blur,
which a 3-pixel kernel makes nearly nothing at 32 px.

    python -m byol_bnfree.data prepare cifar10 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/cifar10_resnet18.py:200 --norm=gn_ws \\
        --data-dir=DIR

Not run to its end by this project, which has no GPU: at the 25 images/s that 2 CPU
cores give, 200 epochs would take 4 months.
"""

from byol_bnfree.config import (
    AugmentConfig,
    HeadConfig,
    InputError,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    ViewConfig,
)


def get_config(epochs: str = "200") -> TrainConfig:
    """200 or 800 epochs; the longer run has the slower target."""
    if epochs not in ("200", "800"):
        raise InputError(f"there is no preset of {epochs!r} epochs; choose 200 or 800.")
    return TrainConfig(
        dataset="cifar10",
        batch_size=512,
        epochs=float(epochs),
        base_lr=2.0,
        model=ModelConfig(
            name="resnet18",
            stem="small",
            stem_stride=1,
            projector=HeadConfig(hidden=4096, out=256),
            predictor=HeadConfig(hidden=4096, out=256),
        ),
        optim=OptimConfig(
            weight_decay=1e-6,
            trust_coefficient=1e-3,
            warmup_epochs=10.0,
            tau_base=0.99 if epochs == "200" else 0.996,
        ),
        augment=AugmentConfig(
            view1=ViewConfig(blur=0.0), view2=ViewConfig(blur=0.0, solarize=0.2)
        ),
    )
