"""CIFAR-10 on two CPU cores."""

from byol_bnfree import AugmentConfig, ModelConfig, OptimConfig, TrainConfig
from byol_bnfree.config import HeadConfig, ViewConfig


def get_config() -> TrainConfig:
    """All 50,000 images, 8 epochs."""
    head = HeadConfig(hidden=1024, out=256)
    return TrainConfig(
        dataset="cifar10",
        batch_size=256,
        epochs=8,
        base_lr=2.0,
        model=ModelConfig(
            name="resnet14",
            width=1.0,
            stem="small",
            stem_stride=2,
            projector=head,
            predictor=head,
        ),
        optim=OptimConfig(weight_decay=1e-6, warmup_epochs=0.5, tau_base=0.99),
        augment=AugmentConfig(
            view1=ViewConfig(blur=0.0), view2=ViewConfig(blur=0.0, solarize=0.2)
        ),
    )
