"""A few steps of a tiny network on generated shapes, to test that everything runs.

    python -m byol_bnfree.train --config=configs/smoke.py --workdir=/tmp/smoke

It takes about half a minute on 2 CPU cores, nearly all of it for compilation. The
accuracy is meaningless.
"""

import dataclasses

from byol_bnfree.config import (
    MUON,
    DataConfig,
    HeadConfig,
    ModelConfig,
    Norm,
    OptimConfig,
    RunConfig,
    TrainConfig,
)
from byol_bnfree.recipes import Recipe, suited

LARS = OptimConfig(warmup_epochs=0.1, tau_base=0.9)


def get_config(*, norm: Norm = "gn_ws") -> TrainConfig:
    """Train 20 steps of 16 images through a network of 8 to 32 channels."""
    head = HeadConfig(hidden=32, out=16)
    muon = dataclasses.replace(MUON, warmup_epochs=0.1, tau_base=0.9)
    config = TrainConfig(
        batch_size=16,
        steps=20,
        model=ModelConfig(
            name="resnet14",
            width=0.5,
            stem="small",
            stem_stride=2,
            projector=head,
            predictor=head,
        ),
        data=DataConfig(image_size=16, shapes_train=128, shapes_test=64),
        run=RunConfig(log_every=5),
    )
    return suited(config, norm, bn=Recipe(1.0, LARS), batch_free=Recipe(0.3, muon))
