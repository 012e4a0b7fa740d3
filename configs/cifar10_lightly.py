"""CIFAR-10, ResNet-18, BatchNorm: BYOL as in lightly's benchmark. Argument: epochs.

Source: lightly 0351a52, docs/source/getting_started/benchmarks/cifar10_benchmark.py.
Its table of February 2022 has 87.2 % kNN after 200 epochs and 91.1 % after 800 of batch
512. The table of March 2023, of later code, has 86.8 and 91.0 %. Both are single runs
with k = 200, best over epochs; this run logs kNN after each epoch. The encoder has
PyTorch's padding and shortcuts, so it has the same 11,168,832 parameters.

    python -m byol_bnfree.data prepare cifar10 --data-dir=DIR
    python -m byol_bnfree.train --config=configs/cifar10_lightly.py:200 --data-dir=DIR

Its loss is half the sum of two negative cosines. Ours is four times as steep. So its
rate of 0.06 for 128 images becomes 0.03 for 256 here, and its decay is multiplied by
four. We have not run it yet. On a GPU:

    bash experiments/gpu.sh train SECONDS DIR lightly
"""

from byol_bnfree.config import (
    AugmentConfig,
    EvalConfig,
    HeadConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    ViewConfig,
)
from byol_bnfree.errors import InputError

VIEW = ViewConfig(saturation=0.4, blur=0.0)


def get_config(epochs: str = "200") -> TrainConfig:
    """Train for 200 or 800 epochs in batches of 512."""
    if epochs not in ("200", "800"):
        raise InputError(f"there is no preset of {epochs!r} epochs; choose 200 or 800.")
    head = HeadConfig(hidden=1024, out=256, output_bias=True)
    return TrainConfig(
        norm="bn",
        dataset="cifar10",
        batch_size=512,
        epochs=float(epochs),
        base_lr=0.03,
        target_init="copy",
        model=ModelConfig(
            name="resnet18",
            stem="small",
            padding="torch",
            shortcuts="changed_shape",
            projector=head,
            predictor=head,
        ),
        optim=OptimConfig(
            name="sgd",
            weight_decay=2e-3,
            bias_weight_decay=2e-3,
            warmup_epochs=0.0,
            tau_base=0.99,
            tau_schedule="constant",
        ),
        augment=AugmentConfig(view1=VIEW, view2=VIEW),
        evaluation=EvalConfig(knn_k=200, knn_every_epochs=1.0),
    )
