"""Builds the network of a configuration from the modules of `models`."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from byol_bnfree.config import TURNS, HeadConfig, TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.machine.precision import resolve_dtype
from byol_bnfree.models.architectures import ARCHITECTURES
from byol_bnfree.models.byol import BYOLNetwork
from byol_bnfree.models.encoders import create_encoder
from byol_bnfree.models.heads import MLPHead
from byol_bnfree.models.initializers import fan_in_init
from byol_bnfree.models.kernels import XLA, Kernels, with_plain_arrays
from byol_bnfree.models.norm import check_channels, layers_for
from byol_bnfree.own_encoder import load_encoder_module
from byol_bnfree.settings.norms import groups_of_micro_batch, part_norms
from byol_bnfree.settings.types import check_kind


def encoder_name(config: TrainConfig) -> str:
    """Return a name such as resnet14, or the name of a user's function or class."""
    if config.encoder is None:
        return config.model.name
    return config.encoder.rpartition(":")[2]


def create_network(
    config: TrainConfig,
    num_classes: int | None,
    stat_groups: int | None = None,
    kernels: Kernels = XLA,
    views: int = 1,
    encoder: nn.Module | None = None,
) -> BYOLNetwork:
    """Build the network of a configuration.

    Args:
      config: the settings of the run.
      num_classes: outputs of the linear probe; None builds no probe.
      stat_groups: groups of BatchNorm statistics in one pass. None: those of a
        micro-batch, as `make_train_step` needs.
      kernels: the functions that compute the layers.
      views: views of each image in a training batch, side by side. With a user's
        encoder this becomes 1, because its statistics do not know about views.
      encoder: a module that replaces the configuration's encoder.

    Raises:
      InputError: for sizes that do not fit each other, for a --model that returns no
        Flax module, and for a configuration or module of another kind.
    """
    check_kind(config, TrainConfig, "config", "a TrainConfig, such as TrainConfig()")
    check_kind(encoder, nn.Module | None, "encoder", "a module of flax.linen")
    own = encoder is not None or config.encoder is not None
    _check_remat(config, own)
    views = 1 if own else views
    options = _layer_options(config, stat_groups, kernels, views)
    # The probe is a plain linear layer under every norm, as in the papers.
    return BYOLNetwork(
        encoder=_encoder(config, options) if encoder is None else encoder,
        own_encoder=own,
        projector=_head(config, "projector", options),
        predictor=_head(config, "predictor", options),
        probe=nn.Dense(num_classes, kernel_init=fan_in_init) if num_classes else None,
        views=views,
        predictor_start=config.model.predictor_start,
        small_predictor=_head(config, "predictor", options)
        if has_small_predictor(config)
        else None,
    )


def has_small_predictor(config: TrainConfig) -> bool:
    """True if small views have a predictor of their own."""
    return config.views.small > 0 and config.views.small_predictor == "own"


def prediction_width(config: TrainConfig) -> int:
    """Outputs of the predictor: a projection's, or one for each quarter turn."""
    return TURNS if config.objective == "rotation" else config.model.predictor.out


def _check_remat(config: TrainConfig, own: bool) -> None:
    if own and config.remat:
        raise InputError(
            "--remat works with the networks of --model.name, but this encoder is "
            "your own; remove --remat, or use flax.linen.remat in its "
            "code."
        )


def _layer_options(
    config: TrainConfig, stat_groups: int | None, kernels: Kernels, views: int
) -> dict[str, Any]:
    """Return the arguments of `layers_for` that all parts of the network share."""
    model = config.model
    return {
        "groups": model.groups,
        "min_group_channels": model.min_group_channels,
        "standardize_conv": model.standardize_conv,
        "unit_kernels": model.unit_kernels,
        "standardize_dense": model.standardize_dense,
        "stat_groups": stat_groups or groups_of_micro_batch(config),
        "views": views,
        "dtype": jnp.dtype(resolve_dtype(config.compute_dtype)),
        "kernels": kernels,
    }


def _encoder(config: TrainConfig, options: dict[str, Any]) -> nn.Module:
    model, norm = config.model, part_norms(config)["encoder"]
    if config.encoder is not None:
        options = options | {"kernels": with_plain_arrays(options["kernels"])}
        return load_encoder_module(config.encoder, layers_for(norm, **options))
    # A recipe may hold settings of other networks; see `whole_run.without_effect`.
    bottleneck = ARCHITECTURES[model.name].bottleneck
    return create_encoder(
        model.name,
        norm=norm,
        width=model.width,
        stem=model.stem,
        stem_stride=model.stem_stride if model.stem == "small" else 1,
        stem_channels=model.stem_channels,
        last_scale_init=model.last_scale_init if bottleneck else 1.0,
        padding=model.padding,
        shortcuts=model.shortcuts,
        remat=config.remat,
        **options,
    )


def _head(config: TrainConfig, part: str, options: dict[str, Any]) -> MLPHead:
    """Build the projector or the predictor, by its name in `ModelConfig`."""
    head: HeadConfig = getattr(config.model, part)
    norm, plain_dense = part_norms(config)[part], head.plain_dense
    if part == "predictor" and config.objective == "rotation":
        plain_dense = (*plain_dense, head.depth)  # a classifier is never standardized
    options = options | {"unit_kernels": False}  # heads have no convolutions
    plain, layers = options | {"standardize_dense": False}, layers_for(norm, **options)
    check_channels(layers, [head.hidden] if head.depth > 1 else [])
    return MLPHead(
        head.hidden,
        prediction_width(config) if part == "predictor" else head.out,
        head.depth,
        layers,
        output_bias=head.output_bias,
        plain_dense=plain_dense,
        plain=layers_for(norm, **plain).dense,
    )
