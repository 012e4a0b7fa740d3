"""ImageNet, ResNet-50, BatchNorm: vanilla BYOL with DeepMind's presets.

Source: arXiv 2006.07733 section 3.3 and appendix G, DeepMind's configs/byol.py. The
argument is the number of epochs: 40, 100, 300 or 1000.

    python -m byol_bnfree.data prepare imagenet2012 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/imagenet_resnet50.py:300 --data-dir=DIR

Published top-1 of the linear evaluation: 74.3 % at 1000 epochs, 72.5 % at 300. DeepMind
states about 8 hours for 1000 epochs on 512 TPU v3 cores. Not run by this project.

What differs from DeepMind's run: images stream through a host-side random resized crop
that antialiases when it shrinks (theirs does not), and every epoch is a permutation
(theirs shuffles in a buffer). `model.last_scale_init` is 0, as in the released code;
the paper's figures had 1.
"""

from byol_bnfree.config import (
    DataConfig,
    HeadConfig,
    InputError,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)

# epochs: base learning rate, weight decay, tau
PRESETS = {
    "40": (0.45, 1e-6, 0.97),
    "100": (0.45, 1e-6, 0.99),
    "300": (0.3, 1e-6, 0.99),
    "1000": (0.2, 1.5e-6, 0.996),
}


def get_config(epochs: str = "1000") -> TrainConfig:
    """DeepMind's preset for 40, 100, 300 or 1000 epochs."""
    if epochs not in PRESETS:
        raise InputError(
            f"there is no preset of {epochs!r} epochs; choose {', '.join(PRESETS)}."
        )
    base_lr, weight_decay, tau = PRESETS[epochs]
    head = HeadConfig(hidden=4096, out=256, depth=2)
    return TrainConfig(
        norm="bn",
        dataset="imagenet2012",
        batch_size=4096,
        epochs=float(epochs),
        base_lr=base_lr,
        model=ModelConfig(
            name="resnet50",
            stem="imagenet",
            projector=head,
            predictor=head,
            last_scale_init=0.0,
        ),
        optim=OptimConfig(
            name="lars",
            momentum=0.9,
            weight_decay=weight_decay,
            trust_coefficient=1e-3,
            warmup_epochs=10.0,
            tau_base=tau,
        ),
        data=DataConfig(image_size=224, test_split="validation", workers=32),
    )
