"""Encoders by name: the choices of a user, checked, to a network."""

import inspect
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Unpack

import jax.numpy as jnp
from jax.typing import DTypeLike

from byol_bnfree.config import ModelConfig
from byol_bnfree.errors import InputError
from byol_bnfree.models.architectures import ARCHITECTURES, scaled_channels
from byol_bnfree.models.norm import NormOptions, check_channels, layers_for
from byol_bnfree.models.resnet import ResNet, check_choices
from byol_bnfree.settings.checks import check_network


def create_encoder(
    name: str,
    *,
    norm: str = "gn_ws",
    width: float = 1.0,
    stem: str = "imagenet",
    stem_stride: int = 1,
    stem_channels: int | None = None,
    last_scale_init: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    padding: str = "same",
    shortcuts: str = "every_group",
    remat: bool = False,
    **norm_options: Unpack[NormOptions],
) -> ResNet:
    """Build an encoder by name, for use in your own code.

    Args:
      name: a value of --model.name, such as "resnet50" or "resnet50v2".
      norm: normalization variant; see The norms (docs/norms.md).
      width: factor on the channels of every layer.
      stem: "imagenet" (7x7 stride 2, max-pool) or "small" (3x3, no max-pool).
      stem_stride: stride of the small stem, 1 or 2.
      stem_channels: channels of the first convolution. None takes the network's own
        number, times `width`.
      last_scale_init: initial scale of the last norm in a bottleneck block (v1), as in
        resnet50. Other networks take 1 only.
      dtype: dtype of activations. Parameters are float32.
      padding: "same" (TensorFlow, Haiku, DeepMind's BYOL), "torch" (symmetric),
        "solo_learn" (symmetric, and two pixels at a small stem) or "bit" (symmetric,
        and zeros around the max-pool).
      shortcuts: "every_group" puts a projection in the first block of every group, as
        DeepMind's code does. "changed_shape" puts one only where the shape changes, as
        torchvision's resnet18 does.
      remat: keep only the outputs of the stages, and recompute their inner activations
        in the backward pass.
      **norm_options: further arguments of `layers_for`, such as `groups`.

    Returns:
      A Linen module that maps images [b h w c] to representations [b d], float32.

    Raises:
      InputError: for an unknown option, name, norm, stem, padding or kind of shortcut,
        for a width that makes the channels of a layer no whole number or no whole
        groups, for a `last_scale_init` or `stem_stride` that the network does not have,
        and for numbers that no command line takes.
    """
    _check_options(norm_options)
    _check_name(name)
    check_choices(stem, padding, shortcuts)
    check_network(
        ModelConfig(
            width=width,
            stem_stride=stem_stride,
            stem_channels=stem_channels,
            last_scale_init=last_scale_init,
        )
    )
    _check_architecture(name, last_scale_init)
    if stem != "small" and stem_stride != 1:
        raise InputError(
            f"stem_stride is {stem_stride}, but the stem is {stem}, whose strides are "
            f"fixed; leave it out, or give stem='small'."
        )
    layers = layers_for(norm, dtype=dtype, **norm_options)
    check_channels(layers, _widths(name, width, stem_channels))
    return ResNet(
        ARCHITECTURES[name],
        layers,
        width=width,
        stem=stem,
        stem_stride=stem_stride,
        last_scale_init=last_scale_init,
        dtype=dtype,
        stem_channels=stem_channels,
        padding=padding,
        shortcuts=shortcuts,
        remat=remat,
    )


def _check_options(norm_options: Iterable[str]) -> None:
    own = inspect.signature(create_encoder).parameters
    known = [*own, *NormOptions.__annotations__]
    known.remove("norm_options")
    for option in norm_options:
        if option not in known:
            near = get_close_matches(option, known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"use {', '.join(known)}."
            raise InputError(f"create_encoder has no option {option!r}; {advice}")


def _check_name(name: str) -> None:
    if name not in ARCHITECTURES:
        names = ", ".join(ARCHITECTURES)
        raise InputError(f"network is {name!r}; choose one of {names}.")


def _check_architecture(name: str, last_scale_init: float) -> None:
    architecture = ARCHITECTURES[name]
    if last_scale_init == 1:
        return
    if architecture.preactivation:
        raise InputError(
            f"last_scale_init is {last_scale_init:g}, but a block of {name} ends with "
            f"a convolution and not with a norm; leave it at 1."
        )
    if not architecture.bottleneck:
        raise InputError(
            f"last_scale_init is {last_scale_init:g}, but {name} has no bottleneck "
            f"blocks, whose last norm it scales; leave it at 1."
        )


def _widths(name: str, width: float, stem_channels: int | None) -> set[int]:
    """Return the channels of all layers; `InputError` if some are no whole number."""
    architecture = ARCHITECTURES[name]
    outer = architecture.channels
    inner = [channels // 4 for channels in outer] if architecture.bottleneck else []
    found = {scaled_channels(channels, width) for channels in (*inner, *outer)}
    stem = scaled_channels(architecture.stem_channels, width)
    return found | {stem_channels or stem}
