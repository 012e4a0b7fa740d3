"""The configurations on which claims are checked."""

import dataclasses

import jax

from byol_bnfree.config import (
    DataConfig,
    HeadConfig,
    ImageSize,
    MoCoConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    ViewsConfig,
    height_and_width,
)
from byol_bnfree.cpu.choice import ONEDNN, XLA_ON_CPU, choose_kernels
from byol_bnfree.machine.precision import resolve_dtype
from byol_bnfree.models.kernels import Kernels
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.settings.objective_checks import norms_in_use
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.program import views_together

STEPS = 4  # enough for a resume at every step, and rounding has not grown yet
CLASSES = 10
FEW = 4  # images of an analysis, if their number does not matter
LARGEST_IMAGE = 32
"""Largest side, in pixels, of inputs that are run; also the side of unknown inputs."""


def uses_batch_statistics(config: TrainConfig) -> bool:
    """Return True if any part of the network has BatchNorm."""
    return "bn" in part_norms(config).values()


def trains_with_batch_statistics(config: TrainConfig) -> bool:
    """Return True if any part that the objective uses has BatchNorm."""
    return "bn" in norms_in_use(config).values()


def for_analysis(
    config: TrainConfig, image_size: ImageSize
) -> tuple[TrainConfig, DataShape]:
    """Return the configuration's own network, on a few images of this size.

    The batch has `FEW` images, or two for each group of BatchNorm statistics.
    """
    size = max(FEW, 2 * config.bn_stat_groups)
    few = dataclasses.replace(
        config,
        batch_size=size,
        moco_v2=_short_queue(config, 4 * size),
        model=_few_features(config, size // 2),
        steps=STEPS,
        micro_batches=1,
        views=_small_enough(config, image_size),
        optim=dataclasses.replace(config.optim, warmup_epochs=0),
    )
    channels = config.data.channels or 3
    shape = (*height_and_width(image_size), channels)
    return few, DataShape(100 * size, CLASSES, shape)


def images_together(config: TrainConfig) -> int:
    """Return how many images of one size pass through the network at once in a run.

    These are the views of a micro-batch that pass side by side. An analysis needs two.
    """
    images = config.batch_size // config.micro_batches
    return max(images * views_together(config, unroll=False), 2)


def kernels_of_run(config: TrainConfig) -> Kernels:
    """Return the kernels that a run has on the devices of this process."""
    dtype = resolve_dtype(config.compute_dtype)
    return choose_kernels(config.run.convolution, jax.device_count(), dtype)


def kernels_to_trace(config: TrainConfig) -> Kernels:
    """Return those of the run, or XLA's on CPUs for C++, which cannot be followed."""
    kernels = kernels_of_run(config)
    return XLA_ON_CPU if kernels is ONEDNN else kernels


def _small_enough(config: TrainConfig, image_size: ImageSize) -> ViewsConfig:
    """Return the run's views. Small ones are no larger than images of this size."""
    views = config.views
    if views.small_size is None:
        return views
    most = min(height_and_width(image_size))
    return dataclasses.replace(views, small_size=min(views.small_size, most))


def tiny(config: TrainConfig, **fields) -> TrainConfig:
    """Return a short run of a small network with the same norms, optimizer and views.

    More than three large views, and more small ones, would only take more time. The
    dtype is that of the run: "auto" would mean another one on the claims' CPU devices.
    Under BatchNorm LARS may replace the optimizer: see `other_optimizer`. The run
    serves claims about the training step, which hold for any network. Its low rate
    keeps rounding errors small: with bn a relative error of 1e-7 grows to 4e-7 over 6
    steps, and to 1e-3 at ten times the rate.
    """
    small = dataclasses.replace(
        TrainConfig(),
        objective=config.objective,
        byol=config.byol,
        infonce=config.infonce,
        moco_v2=_short_queue(config, 256),
        barlow_twins=config.barlow_twins,
        batch_size=16,
        steps=STEPS,
        base_lr=0.4,
        seed=config.seed,
        norm=config.norm,
        encoder_norm=config.encoder_norm,
        projector_norm=config.projector_norm,
        predictor_norm=config.predictor_norm,
        target_init=config.target_init,
        compute_dtype=resolve_dtype(config.compute_dtype),
        augment=config.augment,
        views=dataclasses.replace(
            config.views,
            count=min(config.views.count, 3),
            small=min(config.views.small, 1),
            small_size=None,
        ),
        optim=dataclasses.replace(_optimizer(config), warmup_epochs=0.1),
        model=dataclasses.replace(
            config.model,
            name="resnet8",
            width=0.5,
            stem="small",
            stem_stride=2,
            groups=16,
            # With the usual 16, narrow layers would have one group, as in LayerNorm.
            min_group_channels=4,
            projector=_small_head(config, config.model.projector),
            predictor=_small_head(config, config.model.predictor),
        ),
        data=DataConfig(image_size=16, shapes_train=64, shapes_test=16),
        run=RunConfig(log_every=1),
    )
    return dataclasses.replace(small, **fields)


def other_optimizer(config: TrainConfig) -> str:
    """Say why `tiny` has another optimizer than the configuration; empty if it has not.

    Muon and Adam divide an update by its size. A kernel or bias before BatchNorm has
    gradients that are zero but for rounding, and such an update is all rounding. Under
    SimSiam four steps with micro-batches end 2e-2 apart with Muon, and 2e-6 with LARS.
    """
    name = config.optim.name
    amplifies = trains_with_batch_statistics(config) or config.objective == "simsiam"
    if name not in ("muon", "adamw") or not amplifies:
        return ""
    return (
        f"These runs have LARS instead of {name}, which turns the rounding of small "
        f"gradients into whole updates."
    )


def _optimizer(config: TrainConfig) -> OptimConfig:
    return OptimConfig() if other_optimizer(config) else config.optim


def _short_queue(config: TrainConfig, queue: int) -> MoCoConfig:
    """Shorten MoCo's queue to a multiple of a small batch."""
    moco = config.moco_v2
    if config.objective != "moco_v2":
        return moco
    return dataclasses.replace(moco, queue=queue)


def _small_head(config: TrainConfig, head: HeadConfig) -> HeadConfig:
    """Shrink a head.

    A closed-form predictor fits 16 images, so it gets few features.
    """
    width = 8 if config.byol.predictor == "closed_form" else 32
    return HeadConfig(128, width, head.depth, plain_dense=head.plain_dense)


def _few_features(config: TrainConfig, width: int) -> ModelConfig:
    """Shrink the projections so that a batch of few images can fit them."""
    model = config.model
    if config.byol.predictor != "closed_form":
        return model
    heads = {
        name: dataclasses.replace(getattr(model, name), out=width)
        for name in ("projector", "predictor")
    }
    return dataclasses.replace(model, **heads)
