"""Residual networks (v1): images [b h w c] to representations [b d].

The defaults follow DeepMind's BYOL, which uses Haiku's ResNet v1. Padding is `SAME`.
The first 3x3 convolution of a block carries the stride. The first block of every group
has a projection shortcut. The representation is the mean over the last feature map.

PyTorch's networks differ in two points, which are options here: the padding, and the
shortcut of a block that keeps the shape. resnet8, 14, 20 and 56 are the three-stage
CIFAR networks of He et al. 2016, section 4.2.

Dense tasks need larger maps. `output_stride` limits the total stride: later groups use
dilated kernels (arXiv 1511.07122) in the place of strides. The parameters are the same.
"""

import math
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from einops import reduce
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError
from byol_bnfree.models.norm import Layers, layers_for


class Architecture(NamedTuple):
    """The shape of a network: for each group, its blocks and its output channels.

    Channels are those at width 1. `bottleneck` chooses the block type.
    """

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


# An even size at stride 2 needs one pixel of padding, on one side. TensorFlow and Haiku
# pad at the end. PyTorch pads both sides, but the strides never reach the last pixel,
# so its convolution equals padding at the start.
# solo-learn pads its 3x3 stem by two pixels, one more than keeps the size.
PADDINGS = {"same": "SAME", "torch": "SAME_LOWER", "solo_learn": "SAME_LOWER"}
Padding = str | tuple[tuple[int, int], ...]
SHORTCUTS = ("every_group", "changed_shape")


class BasicBlock(nn.Module):
    """relu(x + F(x)), where F is two 3x3 convolutions. The first has the stride."""

    channels: int
    stride: int
    project: bool
    layers: Layers
    last_scale_init: float = 1.0  # DeepMind's code zeroes bottlenecks only
    padding: Padding = "SAME"
    dilation: int = 1
    first_dilation: int = 1
    """Dilation of the convolution with the stride."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h2 w2 d"]:
        conv, _, norm, relu, _ = self.layers
        strided = partial(conv, strides=self.stride, padding=self.padding)
        strided = partial(strided, kernel_dilation=self.first_dilation)
        y = strided(self.channels, (3, 3), name="conv1")(x)
        y = relu(norm(name="norm1")(y, train))
        y = conv(self.channels, (3, 3), kernel_dilation=self.dilation, name="conv2")(y)
        y = norm(name="norm2")(y, train)
        if self.project:
            x = conv(self.channels, (1, 1), self.stride, name="shortcut_conv")(x)
            x = norm(name="shortcut_norm")(x, train)
        return relu(y + x)


class BottleneckBlock(nn.Module):
    """relu(x + F(x)), where F is a 1x1, a 3x3 (with the stride) and a 1x1 convolution.

    `last_scale_init` is the initial scale of the last norm. At 0 the block starts as
    the identity.
    """

    channels: int
    stride: int
    project: bool
    layers: Layers
    last_scale_init: float = 1.0
    padding: Padding = "SAME"
    dilation: int = 1
    first_dilation: int = 1
    """Dilation of the convolution with the stride."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h2 w2 d"]:
        conv, _, norm, relu, _ = self.layers
        strided = partial(conv, strides=self.stride, padding=self.padding)
        strided = partial(strided, kernel_dilation=self.first_dilation)
        y = conv(self.channels // 4, (1, 1), name="conv1")(x)
        y = relu(norm(name="norm1")(y, train))
        y = strided(self.channels // 4, (3, 3), name="conv2")(y)
        y = relu(norm(name="norm2")(y, train))
        y = conv(self.channels, (1, 1), name="conv3")(y)
        y = norm(name="norm3", scale_init=self.last_scale_init)(y, train)
        if self.project:
            x = conv(self.channels, (1, 1), self.stride, name="shortcut_conv")(x)
            x = norm(name="shortcut_norm")(x, train)
        return relu(y + x)


class Step(NamedTuple):
    """The stride of a block's first 3x3 convolution, and dilations of its kernels."""

    stride: int
    first_dilation: int
    dilation: int

    def inner(self) -> "Step":
        """Return the step of the group's other blocks."""
        return Step(1, self.dilation, self.dilation)


class ResNet(nn.Module):
    """A residual network without a classifier.

    Call it as `net.apply(variables, images, train)` on normalized images [b h w c].
    They may have any number of channels, and any size that leaves at least one pixel
    after the last stride. Parameters and statistics are float32.
    """

    architecture: Architecture
    layers: Layers
    width: float = 1.0
    stem: str = "imagenet"
    stem_stride: int = 1
    last_scale_init: float = 1.0
    dtype: DTypeLike = jnp.float32
    stem_channels: int | None = None
    padding: str = "same"
    shortcuts: str = "every_group"
    remat: bool = False
    """In training the backward pass computes the inside of each stage again."""
    output_stride: int | None = None
    """Largest total stride; see `with_output_stride`. None: that of the network."""

    def __call__(
        self, images: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b d"]:
        return self.pooled(self.stages(images, train)[-1])

    @staticmethod
    def pooled(maps: Float[Array, "b h w c"]) -> Float[Array, "b c"]:
        """Average the last feature maps over the image; this is the representation."""
        return reduce(maps.astype(jnp.float32), "b h w c -> b c", "mean")

    @nn.compact
    def stages(
        self, images: Float[Array, "b h w c"], train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Return the feature maps after each group of blocks, largest first.

        Call it as `net.apply(variables, images, method="stages")`. The mean of the last
        map over the image is the representation.
        """
        again = self.remat and train and not self.is_initializing()
        lifted = nn.remat if again else lambda stage: stage
        stem = lifted(lambda net, x: net._stem(x, train))
        maps, x = [], stem(self, images.astype(self.dtype))
        for group in range(len(self.architecture.blocks)):
            stage = lifted(lambda net, x, group=group: net._stage(x, group, train))
            x = stage(self, x)
            maps.append(x)
        return tuple(maps)

    @property
    def stem_total(self) -> int:
        """The stride of the stem with its pooling."""
        return 4 if self.stem == "imagenet" else self.stem_stride

    def group_steps(self) -> list[Step]:
        """Return the stride and the dilations of each group's first block."""
        steps, reached, dilation = [], self.stem_total, 1
        for group in range(len(self.architecture.blocks)):
            factor, before = 2 if group else 1, dilation
            limit = self.output_stride or reached * factor
            if reached * factor <= limit:
                reached, stride = reached * factor, factor
            else:
                dilation, stride = dilation * factor, 1
            steps.append(Step(stride, before, dilation))
        return steps

    def _block_padding(self, size: tuple[int, int], step: Step) -> Padding:
        """Return the padding of a block's first 3x3 convolution.

        Where its stride became a dilation, it pads as with the stride. "SAME" then
        pads the end only, and a symmetric kernel would be shifted against the shortcut.
        """
        padding, before = PADDINGS[self.padding], step.first_dilation
        if step.dilation == before:
            return padding
        short = [-(-side // before) for side in size]
        pads = lax.padtype_to_pads(short, (3, 3), (2, 2), padding)
        return tuple((low * before, (2 - low) * before) for low, _ in pads)

    @property
    def total_stride(self) -> int:
        """Pixels of the image per pixel of the last map, along one side."""
        strides = [step.stride for step in self.group_steps()]
        return math.prod(strides, start=self.stem_total)

    def with_output_stride(self, stride: int | None) -> "ResNet":
        """Return the network with a total stride of at most `stride`; None: its own.

        The 3x3 convolution that had the stride keeps its dilation and its padding. All
        later ones of the group get twice the dilation. So the larger map holds every
        value of the smaller one at its even pixels, unless a norm takes statistics of
        the map. MoCo and BYOL's appendix D.4 dilate the first one too.

        Raises:
          InputError: if the stem alone has a larger stride, or for a stride that is no
            power of two.
        """
        if stride is not None and (stride & (stride - 1) or stride < self.stem_total):
            raise InputError(
                f"the stride {stride} is not possible: the stem has stride "
                f"{self.stem_total}; choose a power of two from there, such as 8 or 16."
            )
        return self.clone(output_stride=stride)

    def _stage(self, x: Array, group: int, train: bool) -> Array:
        """The blocks of a group, one after the other."""
        block = BottleneckBlock if self.architecture.bottleneck else BasicBlock
        channels = scaled_channels(self.architecture.channels[group], self.width)
        steps = self.group_steps()
        for index in range(self.architecture.blocks[group]):
            first = index == 0
            step = steps[group] if first else steps[group].inner()
            changed = (first and group > 0) or x.shape[-1] != channels
            x = block(
                channels=channels,
                stride=step.stride,
                first_dilation=step.first_dilation,
                dilation=step.dilation,
                project=first and (changed or self.shortcuts == "every_group"),
                layers=self.layers,
                last_scale_init=self.last_scale_init,
                padding=self._block_padding(x.shape[1:3], step),
                name=f"group{group}_block{index}",
            )(x, train)
        return x

    def _stem(self, x: Array, train: bool) -> Array:
        """Apply the layers before the first block."""
        conv, _, norm, relu, max_pool = self.layers
        scaled = scaled_channels(self.architecture.stem_channels, self.width)
        channels = self.stem_channels or scaled
        imagenet = self.stem == "imagenet"
        kernel, stride = ((7, 7), 2) if imagenet else ((3, 3), self.stem_stride)
        padding = PADDINGS[self.padding]
        if self.padding == "solo_learn" and not imagenet:
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = conv(channels, kernel, stride, padding, name="conv1")(x)
        x = relu(norm(name="norm1")(x, train))
        return max_pool(x, padding) if imagenet else x


def scaled_channels(channels: int, width: float) -> int:
    """Return a layer's channels at a width; `InputError` if not a whole number."""
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
    stem_channels: int | None = None,
    last_scale_init: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    padding: str = "same",
    shortcuts: str = "every_group",
    remat: bool = False,
    **norm_options,
) -> ResNet:
    """Build an encoder by name, for use in your own code.

    Args:
      name: a key of `ARCHITECTURES`, such as "resnet50".
      norm: normalization variant; see `byol_bnfree.models.norm`.
      width: factor on the channels of every layer.
      stem: "imagenet" (7x7 stride 2, max-pool) or "small" (3x3, no max-pool).
      stem_stride: stride of the small stem.
      stem_channels: channels of the first convolution. None takes the network's own
        number, times `width`.
      last_scale_init: initial scale of the last norm in a bottleneck block.
      dtype: dtype of activations. Parameters are float32.
      padding: "same" (TensorFlow, Haiku, DeepMind's BYOL), "torch" (symmetric) or
        "solo_learn" (symmetric, and two pixels at a small stem).
      shortcuts: "every_group" puts a projection in the first block of every group, as
        DeepMind's code does. "changed_shape" puts one only where the shape changes, as
        torchvision's resnet18 does.
      remat: keep only the outputs of the stages, and recompute their inner activations
        in the backward pass.
      **norm_options: further arguments of `layers_for`, such as `groups`.

    Returns:
      A Linen module that maps images [b h w c] to representations [b d], float32.

    Raises:
      InputError: for an unknown name, norm, stem, padding or kind of shortcut, and for
        a width that makes a layer's channels no whole number.
    """
    _check_choices(name, stem, padding, shortcuts)
    architecture = ARCHITECTURES[name]
    for channels in (architecture.stem_channels, *architecture.channels):
        # The inner layers of a bottleneck are the narrowest.
        scaled_channels(channels // 4 if architecture.bottleneck else channels, width)
    layers = layers_for(norm, dtype=dtype, **norm_options)
    return ResNet(
        architecture,
        layers,
        width,
        stem,
        stem_stride,
        last_scale_init,
        dtype,
        stem_channels,
        padding,
        shortcuts,
        remat,
    )


def _check_choices(name: str, stem: str, padding: str, shortcuts: str) -> None:
    if name not in ARCHITECTURES:
        names = ", ".join(ARCHITECTURES)
        raise InputError(f"network is {name!r}; choose one of {names}.")
    choices = {
        "stem": (stem, ("imagenet", "small")),
        "padding": (padding, tuple(PADDINGS)),
        "shortcuts": (shortcuts, SHORTCUTS),
    }
    for option, (value, allowed) in choices.items():
        if value not in allowed:
            raise InputError(f"{option} is {value!r}; choose {' or '.join(allowed)}.")
