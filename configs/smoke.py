"""A few steps of a tiny network on the generated shapes: does everything run?

    python -m byol_bnfree.train --config=configs/smoke.py --workdir=/tmp/smoke

About half a minute on 2 CPU cores, nearly all of it compilation; its accuracy means
nothing.
"""

from byol_bnfree.config import (
    DataConfig,
    HeadConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
)


def get_config() -> TrainConfig:
    """20 steps of 16 images through a network of 8 to 32 channels."""
    head = HeadConfig(hidden=32, out=16)
    return TrainConfig(
        batch_size=16,
        steps=20,
        base_lr=1.0,
        model=ModelConfig(
            name="resnet14",
            width=0.5,
            stem="small",
            stem_stride=2,
            projector=head,
            predictor=head,
        ),
        optim=OptimConfig(warmup_epochs=0.1, tau_base=0.9),
        data=DataConfig(image_size=16, shapes_train=128, shapes_test=64),
        run=RunConfig(log_every=5),
    )
