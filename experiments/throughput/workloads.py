"""The networks and batches that are timed; the first three are the peer's too."""

import dataclasses
from dataclasses import dataclass

from byol_bnfree import load_config
from byol_bnfree.config import (
    AugmentConfig,
    DataConfig,
    HeadConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    ViewConfig,
)

UNCHANGED = ViewConfig(flip=0, jitter=0, grayscale=0, blur=0, solarize=0)
NORMS = ("bn", "gn_ws")


@dataclass(frozen=True)
class Workload:
    """A recipe's network and batch at one image size."""

    image_size: int
    recipe: TrainConfig
    peer: bool = True
    """Whether the peer knows it."""


def _network(name: str, stem: str, batch_size: int) -> TrainConfig:
    head = HeadConfig(hidden=4096, out=256)
    model = ModelConfig(name=name, stem=stem, projector=head, predictor=head)
    # LARS for both norms, so that their times differ by the norms alone.
    return TrainConfig(model=model, batch_size=batch_size, optim=OptimConfig())


WORKLOADS = {
    "cifar_resnet18": Workload(32, _network("resnet18", "small", 64)),
    "imagenet_resnet18": Workload(224, _network("resnet18", "imagenet", 16)),
    "imagenet_resnet50": Workload(224, _network("resnet50", "imagenet", 8)),
    "cifar_thin": Workload(32, load_config("configs/cifar10_cpu.py"), peer=False),
}


def config_for(
    workload: Workload, norm: str, convolution: str, augmented: bool
) -> TrainConfig:
    """The recipe on generated pictures of the workload's size, endless.

    Not `augmented` leaves the views as they come.
    """
    recipe = workload.recipe
    plain = AugmentConfig(view1=UNCHANGED, view2=UNCHANGED)
    return dataclasses.replace(
        recipe,
        config=None,
        norm=norm,
        dataset="shapes",
        steps=10**6,
        data=DataConfig(
            image_size=workload.image_size,
            channels=3,
            shapes_train=8 * recipe.batch_size,
            shapes_test=10,
        ),
        augment=recipe.augment if augmented else plain,
        run=dataclasses.replace(recipe.run, convolution=convolution),
    )
