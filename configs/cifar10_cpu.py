"""CIFAR-10 on two CPU cores: resnet14 of 16, 32, 64 channels. Argument: epochs.

    python -m byol_bnfree.data prepare cifar10 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/cifar10_cpu.py --data-dir=DIR --norm=bn
    python -m byol_bnfree.train --config=configs/cifar10_cpu.py:100 --data-dir=DIR \\
        --norm=gn_ws

The optimizer comes from experiments/recipe_search. Among trials with one rate for all
parts and batches of 256, Muon at 0.04 was best for bn (0.02 and 0.08 were tried too).
For gn_ws it was 0.1 points below 0.08. A predictor at a higher rate was better for bn,
but that is one seed and not used here. A batch of 128 was better for bn after 4 epochs,
and not after 20. With an argument of 20 epochs or more the kernels decay
by 0.1 (bn) or 0.02 (other norms), the best trials there. `--epochs` changes the length
alone, and not the decay. The target's tau is 0.99 throughout. We leave out the blur,
which would be a 3-pixel kernel at 32 px. The stem's stride of 2 quarters the cost.

Stem and network come from an earlier recipe and were not compared with others.

On two cores with the cpu extra, 16 epochs take 6 to 32 minutes. They reach
54.5 % (bn) and 54.9 % (gn_ws) linear accuracy, means of three seeds. 30 epochs reach
62.6 and 63.6 %, means of four (docs/results.md; scales cpu and cpu30 of `python -m
experiments`).
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


def get_config(epochs: str = "16", *, norm: Norm = "gn_ws") -> TrainConfig:
    """Train on all 50,000 images in batches of 256."""
    if not epochs.isdecimal() or int(epochs) < 1:
        raise InputError(f"epochs is {epochs!r}; give a whole number of 1 or more.")
    head = HeadConfig(hidden=1024, out=256)
    return TrainConfig(
        norm=norm,
        dataset="cifar10",
        batch_size=256,
        base_lr=0.04,
        optim=muon(norm, int(epochs)),
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
