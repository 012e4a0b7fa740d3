"""Residual networks: images [b h w c] to representations [b d].

The defaults follow DeepMind's BYOL, which uses Haiku's ResNet v1. Networks with v2 in
their names have pre-activation blocks; see `models.preactivation`. Padding is `SAME`.
The first 3x3 convolution of a block carries the stride. The first block of every group
has a projection shortcut. The representation is the mean over the last feature map.

PyTorch's networks differ in two points, which are options here: the padding, and the
shortcut of a block that keeps the shape. resnet8, 14, 20 and 56 are the three-stage
CIFAR networks of He et al. 2016, section 4.2.

Dense tasks need larger maps. `output_stride` limits the total stride: later groups use
dilated kernels (arXiv 1511.07122) instead of strides. The parameters are the same.
"""

import math
from numbers import Integral
from typing import NamedTuple

import jax.numpy as jnp
from einops import reduce
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError
from byol_bnfree.models.architectures import Architecture, scaled_channels
from byol_bnfree.models.blocks import BasicBlock, BottleneckBlock, Padding
from byol_bnfree.models.norm import Layers
from byol_bnfree.models.preactivation import (
    PreactivationBasicBlock,
    PreactivationBottleneckBlock,
)
from byol_bnfree.settings.types import check_kind

# An even size at stride 2 needs one pixel of padding, on one side. TensorFlow and Haiku
# pad at the end. PyTorch pads both sides, but the strides never reach the last pixel,
# so its convolution equals padding at the start.
# solo-learn pads its 3x3 stem by two pixels, one more than keeps the size.
# BiT pads its max-pool with zeros, which matter where no ReLU stands before it.
PADDINGS = {
    "same": "SAME",
    "torch": "SAME_LOWER",
    "solo_learn": "SAME_LOWER",
    "bit": "SAME_LOWER",
}
BLOCKS = {  # by (bottleneck, preactivation)
    (False, False): BasicBlock,
    (True, False): BottleneckBlock,
    (False, True): PreactivationBasicBlock,
    (True, True): PreactivationBottleneckBlock,
}
SHORTCUTS = ("every_group", "changed_shape")


class Strides(NamedTuple):
    """The stride of a block's first 3x3 convolution, and dilations of its kernels."""

    stride: int
    first_dilation: int
    dilation: int

    def inner(self) -> "Strides":
        """Return those of the group's other blocks."""
        return Strides(1, self.dilation, self.dilation)


class ResNet(nn.Module):
    """A residual network without a classifier.

    Call it as `net.apply(variables, images, train)` on normalized images [b h w c].
    They may have any number of channels, and any size that leaves at least one pixel
    after the last stride. Parameters and statistics are float32.

    Raises:
      InputError: for an architecture or layers of another kind, such as the name of a
        network, and for an unknown stem, padding or kind of shortcut.
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

    def __post_init__(self):
        if not isinstance(self.architecture, Architecture):
            raise InputError(
                f"architecture is {self.architecture!r}; give an Architecture, or use "
                f"create_encoder(name), as in create_encoder('resnet18')."
            )
        check_kind(self.layers, Layers, "layers", "a result of layers_for(norm)")
        check_choices(self.stem, self.padding, self.shortcuts)
        super().__post_init__()

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
        map over the image is the representation. The maps of a v2 network before the
        last one are sums that no norm and no ReLU has followed.

        Raises:
          InputError: for anything but a batch of floats. An image's rows would pass as
            images, and whole numbers as normalized pixels.
        """
        if images.ndim != 4:
            raise InputError(
                f"images have shape {images.shape}; give a batch [b h w c], such as "
                f"image[None] for one."
            )
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(
                f"images are {images.dtype}; give normalized floats, as "
                f"byol_bnfree.normalize makes them of pixels."
            )
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

    def group_strides(self) -> list[Strides]:
        """Return the stride and the dilations of each group's first block."""
        found, reached, dilation = [], self.stem_total, 1
        for group in range(len(self.architecture.blocks)):
            factor, before = 2 if group else 1, dilation
            limit = self.output_stride or reached * factor
            if reached * factor <= limit:
                reached, stride = reached * factor, factor
            else:
                dilation, stride = dilation * factor, 1
            found.append(Strides(stride, before, dilation))
        return found

    def _block_padding(self, size: tuple[int, int], strides: Strides) -> Padding:
        """Return the padding of a block's first 3x3 convolution.

        Where its stride became a dilation, it pads as with the stride. "SAME" then
        pads the end only, and a symmetric kernel would be shifted against the shortcut.
        """
        padding, before = PADDINGS[self.padding], strides.first_dilation
        if strides.dilation == before:
            return padding
        short = [-(-side // before) for side in size]
        pads = lax.padtype_to_pads(short, (3, 3), (2, 2), padding)
        return tuple((low * before, (2 - low) * before) for low, _ in pads)

    @property
    def total_stride(self) -> int:
        """Pixels of the image per pixel of the last map, along one side."""
        factors = [strides.stride for strides in self.group_strides()]
        return math.prod(factors, start=self.stem_total)

    def with_output_stride(self, stride: int | None) -> "ResNet":
        """Return the network with a total stride of at most `stride`; None: its own.

        The 3x3 convolution that had the stride keeps its dilation and its padding. All
        later ones of the group get twice the dilation. So the larger map holds every
        value of the smaller one at its even pixels, unless a norm takes statistics of
        the map. MoCo and BYOL's appendix D.4 dilate the first one too.

        Raises:
          InputError: if the stem alone has a larger stride, or for a stride that is no
            power of two, as a whole number.
        """
        if stride is None:
            return self.clone(output_stride=None)
        whole = isinstance(stride, Integral)
        if not whole or stride & (stride - 1) or stride < self.stem_total:
            raise InputError(
                f"the stride {stride!r} is not possible: the stem has stride "
                f"{self.stem_total}; choose a power of two from there, such as 8 or 16."
            )
        return self.clone(output_stride=stride)

    def _stage(self, x: Array, group: int, train: bool) -> Array:
        """Apply the blocks of a group, one after the other."""
        blocks, channels, bottleneck, _, preactivation = self.architecture
        block = BLOCKS[bottleneck, preactivation]
        channels = scaled_channels(channels[group], self.width)
        of_groups = self.group_strides()
        for index in range(blocks[group]):
            first = index == 0
            strides = of_groups[group] if first else of_groups[group].inner()
            # The first block of a group has a stride. Either change needs a projection.
            changed = (first and group > 0) or x.shape[-1] != channels
            x = block(
                channels=channels,
                stride=strides.stride,
                first_dilation=strides.first_dilation,
                dilation=strides.dilation,
                project=first and (changed or self.shortcuts == "every_group"),
                layers=self.layers,
                last_scale_init=self.last_scale_init,
                padding=self._block_padding(x.shape[1:3], strides),
                name=f"group{group}_block{index}",
            )(x, train)
        # A pre-activation block ends with a sum, so the encoder ends with a norm.
        if preactivation and group == len(blocks) - 1:
            x = self.layers.relu(self.layers.norm(name="final_norm")(x, train))
        return x

    def _stem(self, x: Array, train: bool) -> Array:
        """Apply the layers before the first block."""
        layers = self.layers
        scaled = scaled_channels(self.architecture.stem_channels, self.width)
        channels = self.stem_channels or scaled
        imagenet = self.stem == "imagenet"
        kernel, stride = ((7, 7), 2) if imagenet else ((3, 3), self.stem_stride)
        padding = PADDINGS[self.padding]
        if self.padding == "solo_learn" and not imagenet:
            x = _framed(x)
        x = layers.conv(channels, kernel, stride, padding, name="conv1")(x)
        # A pre-activation block starts with its own norm.
        if not self.architecture.preactivation:
            x = layers.relu(layers.norm(name="norm1")(x, train))
        if not imagenet:
            return x
        if self.padding == "bit":
            x, padding = _framed(x), "VALID"
        return layers.max_pool(x, padding)


def _framed(x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
    """Return the images with a frame of zeros, one pixel wide."""
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def check_choices(stem: str, padding: str, shortcuts: str) -> None:
    """Raise `InputError` for an option that a network does not have."""
    choices = {
        "stem": (stem, ("imagenet", "small")),
        "padding": (padding, tuple(PADDINGS)),
        "shortcuts": (shortcuts, SHORTCUTS),
    }
    for option, (value, allowed) in choices.items():
        if value not in allowed:
            raise InputError(f"{option} is {value!r}; choose {' or '.join(allowed)}.")
