"""Residual networks (v1): images [b h w c] to representations [b d].

As in DeepMind's BYOL (Haiku's ResNet v1): `SAME` padding, the stride on the first
3x3 convolution of a block, a projection shortcut in the first block of every group,
mean over the image at the end. resnet8, 14, 20 and 56 are the three-stage CIFAR
family of He et al. 2016, section 4.2.
"""

from typing import NamedTuple

import jax.numpy as jnp
from einops import reduce
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError
from byol_bnfree.models.norm import Layers, Train, layers_for
from byol_bnfree.models.pooling import max_pool


class Architecture(NamedTuple):
    """Blocks of every group, channels of its output at width 1, block type."""

    blocks: tuple[int, ...]
    channels: tuple[int, ...]
    bottleneck: bool
    stem_channels: int


BASIC, BOTTLENECK = (64, 128, 256, 512), (256, 512, 1024, 2048)
CIFAR = (16, 32, 64)
ARCHITECTURES: dict[str, Architecture] = {
    "resnet8": Architecture((1, 1, 1), CIFAR, False, 16),
    "resnet14": Architecture((2, 2, 2), CIFAR, False, 16),
    "resnet20": Architecture((3, 3, 3), CIFAR, False, 16),
    "resnet56": Architecture((9, 9, 9), CIFAR, False, 16),
    "resnet18": Architecture((2, 2, 2, 2), BASIC, False, 64),
    "resnet34": Architecture((3, 4, 6, 3), BASIC, False, 64),
    "resnet50": Architecture((3, 4, 6, 3), BOTTLENECK, True, 64),
    "resnet101": Architecture((3, 4, 23, 3), BOTTLENECK, True, 64),
    "resnet152": Architecture((3, 8, 36, 3), BOTTLENECK, True, 64),
    "resnet200": Architecture((3, 24, 36, 3), BOTTLENECK, True, 64),
}


class BasicBlock(nn.Module):
    """3x3, 3x3; the first carries the stride."""

    channels: int
    stride: int
    project: bool
    layers: Layers
    last_scale_init: float = 1.0  # DeepMind's code zeroes bottlenecks only

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: Train
    ) -> Float[Array, "b h2 w2 d"]:
        conv, _, norm = self.layers
        shortcut = _shortcut(self, x, train)
        y = conv(self.channels, (3, 3), self.stride, name="conv1")(x)
        y = norm(name="norm1")(y, train, relu=True)
        y = conv(self.channels, (3, 3), name="conv2")(y)
        return norm(name="norm2")(y, train, shortcut, relu=True)


class BottleneckBlock(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 to four times the channels."""

    channels: int
    stride: int
    project: bool
    layers: Layers
    last_scale_init: float = 1.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: Train
    ) -> Float[Array, "b h2 w2 d"]:
        conv, _, norm = self.layers
        shortcut = _shortcut(self, x, train)
        y = conv(self.channels // 4, (1, 1), name="conv1")(x)
        y = norm(name="norm1")(y, train, relu=True)
        y = conv(self.channels // 4, (3, 3), self.stride, name="conv2")(y)
        y = norm(name="norm2")(y, train, relu=True)
        y = conv(self.channels, (1, 1), name="conv3")(y)
        last = norm(name="norm3", scale_init=self.last_scale_init)
        return last(y, train, shortcut, relu=True)


def _shortcut(block, x: Array, train: Train) -> Array:
    if not block.project:
        return x
    conv, _, norm = block.layers
    y = conv(block.channels, (1, 1), block.stride, name="shortcut_conv")(x)
    return norm(name="shortcut_norm")(y, train)


class ResNet(nn.Module):
    """A residual network without a classifier.

    Called as `net.apply(variables, images, train)` on normalized images of any
    number of channels and any size that the strides leave at least a pixel of.
    Parameters and statistics are float32.
    """

    architecture: Architecture
    layers: Layers
    width: float = 1.0
    stem: str = "imagenet"
    stem_stride: int = 1
    last_scale_init: float = 1.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], train: Train = False
    ) -> Float[Array, "b d"]:
        x = self._stem(images.astype(self.dtype), train)
        block = BottleneckBlock if self.architecture.bottleneck else BasicBlock
        groups = zip(self.architecture.blocks, self.architecture.channels, strict=True)
        for group, (blocks, channels) in enumerate(groups):
            for index in range(blocks):
                first = index == 0
                x = block(
                    channels=scaled_channels(channels, self.width),
                    stride=2 if first and group > 0 else 1,
                    project=first,
                    layers=self.layers,
                    last_scale_init=self.last_scale_init,
                    name=f"group{group}_block{index}",
                )(x, train)
        return reduce(x.astype(jnp.float32), "b h w c -> b c", "mean")

    def _stem(self, x: Array, train: Train) -> Array:
        conv, _, norm = self.layers
        channels = scaled_channels(self.architecture.stem_channels, self.width)
        imagenet = self.stem == "imagenet"
        kernel, stride = ((7, 7), 2) if imagenet else ((3, 3), self.stem_stride)
        x = conv(channels, kernel, stride, name="conv1")(x)
        x = norm(name="norm1")(x, train, relu=True)
        return max_pool(x) if imagenet else x


def scaled_channels(channels: int, width: float) -> int:
    """Channels of a layer at a width; `InputError` unless a whole number."""
    scaled = channels * width
    if scaled < 1 or scaled != int(scaled):
        raise InputError(
            f"width {width:g} makes a layer of {channels} channels {scaled:g} wide; "
            f"choose a width that gives whole numbers, such as 0.25, 0.5, 1, 2 or 4."
        )
    return int(scaled)


def create_encoder(
    name: str,
    *,
    norm: str = "gn_ws",
    width: float = 1.0,
    stem: str = "imagenet",
    stem_stride: int = 1,
    last_scale_init: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    **norm_options,
) -> ResNet:
    """An encoder by name: the door for other people's code.

    Args:
      name: a key of `ARCHITECTURES`, such as "resnet50".
      norm: normalization variant, see `byol_bnfree.models.norm`.
      width: multiplies every layer's channels.
      stem: "imagenet" (7x7 stride 2, max-pool) or "small" (3x3, no pool).
      stem_stride: stride of the small stem.
      last_scale_init: initial scale of the last norm of a bottleneck block.
      dtype: of activations; parameters are float32.
      **norm_options: further arguments of `layers_for`, such as `groups`.

    Returns:
      A Linen module: images [b h w c] to representations [b d], float32.

    Raises:
      InputError: for an unknown name, norm or stem, or a width that leaves a layer
        without whole channels.
    """
    if name not in ARCHITECTURES:
        names = ", ".join(ARCHITECTURES)
        raise InputError(f"network is {name!r}; choose one of {names}.")
    if stem not in ("imagenet", "small"):
        raise InputError(f"stem is {stem!r}; choose imagenet or small.")
    architecture = ARCHITECTURES[name]
    for channels in (architecture.stem_channels, *architecture.channels):
        scaled_channels(channels // 4 if architecture.bottleneck else channels, width)
    layers = layers_for(norm, dtype=dtype, **norm_options)
    return ResNet(
        architecture, layers, width, stem, stem_stride, last_scale_init, dtype
    )
