"""CIFAR-10, ResNet-18, BatchNorm: BYOL as solo-learn trains it. Argument: epochs.

Source: solo-learn 4d64ac0, scripts/pretrain/cifar/byol.yaml and its asymmetric
augmentation. It reports 92.58 % online linear accuracy after 1000 epochs. LARS is
clipped to the step of plain SGD, with a trust coefficient of 0.02. The encoder is
torchvision's with the small stem, which pads the images by two pixels there.

    python -m byol_bnfree.data prepare cifar10 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/cifar10_sololearn.py --data-dir=DIR

We have not run it yet. On a GPU: bash experiments/gpu.sh train SECONDS DIR sololearn.
"""

from byol_bnfree.config import (
    AugmentConfig,
    HeadConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    ViewConfig,
)
from byol_bnfree.errors import InputError


def get_config(epochs: str = "1000") -> TrainConfig:
    """Train in batches of 256, for more than the ten epochs of warm-up."""
    if not epochs.isdecimal() or int(epochs) <= 10:
        raise InputError(f"epochs is {epochs!r}; give a whole number above 10.")
    head = HeadConfig(hidden=4096, out=256, output_bias=True)
    return TrainConfig(
        norm="bn",
        dataset="cifar10",
        batch_size=256,
        epochs=float(epochs),
        base_lr=1.0,
        target_init="copy",
        model=ModelConfig(
            name="resnet18",
            stem="small",
            padding="solo_learn",
            shortcuts="changed_shape",
            projector=head,
            predictor=head,
        ),
        optim=OptimConfig(
            name="lars",
            lars_clip=True,
            trust_coefficient=0.02,
            weight_decay=1e-5,
            warmup_epochs=10.0,
            tau_base=0.99,
        ),
        augment=AugmentConfig(
            view1=ViewConfig(blur=0.0), view2=ViewConfig(blur=0.0, solarize=0.2)
        ),
    )
