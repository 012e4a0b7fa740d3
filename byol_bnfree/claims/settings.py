"""The configurations that claims are checked on."""

import dataclasses

from byol_bnfree.config import DataConfig, HeadConfig, RunConfig, TrainConfig
from byol_bnfree.models.byol import part_norms
from byol_bnfree.training.program import DataShape

STEPS = 4
CLASSES = 10


def uses_batch_statistics(config: TrainConfig) -> bool:
    """Whether any part of the network has BatchNorm."""
    return "bn" in part_norms(config).values()


def for_analysis(config: TrainConfig, image_size: int) -> tuple[TrainConfig, DataShape]:
    """The configuration's own network, on few images of this size.

    Four images, or two for each of BatchNorm's statistics groups.
    """
    size = max(4, 2 * config.bn_stat_groups)
    few = dataclasses.replace(
        config,
        batch_size=size,
        steps=STEPS,
        micro_batches=1,
        optim=dataclasses.replace(config.optim, warmup_epochs=0),
    )
    channels = config.data.channels or 3
    return few, DataShape(100 * size, CLASSES, (image_size, image_size, channels))


def tiny(config: TrainConfig, **fields) -> TrainConfig:
    """A short run of a small network with the configuration's norms and optimizer.

    Claims about the step, not about one network, are checked on it. float32, and a
    rate so low that rounding is not amplified beyond recognition: with bn, a relative
    1e-7 at the start of 6 steps grows to 4e-7, and to 1e-3 at ten times the rate.
    """
    head = HeadConfig(hidden=128, out=32)
    small = dataclasses.replace(
        TrainConfig(),
        batch_size=16,
        steps=STEPS,
        base_lr=0.4,
        seed=config.seed,
        norm=config.norm,
        encoder_norm=config.encoder_norm,
        projector_norm=config.projector_norm,
        predictor_norm=config.predictor_norm,
        target_init=config.target_init,
        augment=config.augment,
        optim=dataclasses.replace(config.optim, warmup_epochs=0.1),
        model=dataclasses.replace(
            config.model,
            name="resnet8",
            width=0.5,
            stem="small",
            stem_stride=2,
            groups=16,
            min_group_channels=4,
            projector=dataclasses.replace(head, depth=config.model.projector.depth),
            predictor=dataclasses.replace(head, depth=config.model.predictor.depth),
        ),
        data=DataConfig(image_size=16, shapes_train=64, shapes_test=16),
        run=RunConfig(log_every=1),
    )
    return dataclasses.replace(small, **fields)
