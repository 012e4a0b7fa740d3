"""ImageNet, ResNet-50: vanilla BYOL with DeepMind's presets, or no batch statistics.

The argument is the number of epochs: 40, 100, 300 or 1000. The default norm is bn. Its
recipe is from arXiv 2006.07733 (P1), section 3.3 and appendix G, and from DeepMind's
configs/byol.py.

    python -m byol_bnfree.data prepare imagenet2012 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/imagenet_resnet50.py:300 --data-dir=DIR

--norm=gn_ws is for reproducing arXiv 2010.10241 (P2), which reports 73.9 %, and 74.3 %
with BatchNorm. P2's code was never released and its settings are not public. Norms
other than bn train with Muon here. Its peak rate of 0.04 and its weight decay of 0.02
were found on CIFAR-10 on a CPU. They have not been tried on ImageNet or at this size.
The target's tau rises from the preset's value to 1 by a cosine with every norm.
With bn `last_scale_init` is 0, as in the released code; the paper's results used 1.
With other norms it is 1. On few devices add --micro-batches=N: without batch statistics
the result is the same.

Published top-1 of linear evaluation: 74.3 % after 1000 epochs, 72.5 % after 300.
DeepMind states about 8 hours for 1000 epochs on 512 TPU v3 cores. We have not run it.

Two points differ from DeepMind's run. Images stream through a random resized crop on
the host that antialiases when it shrinks; theirs does not. Every epoch is a
permutation; theirs shuffles in a buffer.
"""

from byol_bnfree.config import (
    DataConfig,
    HeadConfig,
    ModelConfig,
    Norm,
    OptimConfig,
    TrainConfig,
)
from byol_bnfree.errors import InputError
from byol_bnfree.recipes import Recipe, muon, suited

# epochs: base learning rate, weight decay, tau
PRESETS = {
    "40": (0.45, 1e-6, 0.97),
    "100": (0.45, 1e-6, 0.99),
    "300": (0.3, 1e-6, 0.99),
    "1000": (0.2, 1.5e-6, 0.996),
}


def get_config(epochs: str = "1000", *, norm: Norm = "bn") -> TrainConfig:
    """Return DeepMind's preset for 40, 100, 300 or 1000 epochs."""
    if epochs not in PRESETS:
        raise InputError(
            f"there is no preset of {epochs!r} epochs; choose {', '.join(PRESETS)}."
        )
    base_lr, weight_decay, tau = PRESETS[epochs]
    head = HeadConfig(hidden=4096, out=256, depth=2)
    lars = OptimConfig(
        name="lars",
        momentum=0.9,
        weight_decay=weight_decay,
        trust_coefficient=1e-3,
        warmup_epochs=10.0,
        tau_base=tau,
    )
    batch_free = muon(
        norm, int(epochs), warmup_epochs=10.0, tau_base=tau, tau_schedule="cosine"
    )
    config = TrainConfig(
        dataset="imagenet2012",
        batch_size=4096,
        epochs=float(epochs),
        model=ModelConfig(
            name="resnet50",
            stem="imagenet",
            projector=head,
            predictor=head,
            last_scale_init=0.0 if norm == "bn" else 1.0,
        ),
        data=DataConfig(image_size=224, test_split="validation"),
    )
    return suited(
        config, norm, bn=Recipe(base_lr, lars), batch_free=Recipe(0.0025, batch_free)
    )
