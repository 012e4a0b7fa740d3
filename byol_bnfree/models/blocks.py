"""The two blocks of residual networks (He et al. 2016): relu(x + F(x))."""

from functools import partial
from typing import Any

from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.models.norm import Layers

Padding = str | tuple[tuple[int, int], ...]


class Block(nn.Module):
    """The settings of a block, its convolution with the stride, and its shortcut."""

    channels: int
    stride: int
    project: bool
    layers: Layers
    last_scale_init: float = 1.0
    """Initial scale of a bottleneck's last norm. At 0 it starts as the identity."""
    padding: Padding = "SAME"
    dilation: int = 1
    first_dilation: int = 1
    """Dilation of the convolution with the stride."""

    def strided(self, channels: int, name: str) -> nn.Module:
        """Return the 3x3 convolution with the stride."""
        conv = partial(self.layers.conv, kernel_dilation=self.first_dilation)
        return conv(channels, (3, 3), self.stride, self.padding, name=name)

    def shortcut(self, x: Float[Array, "b h w c"], train: bool) -> Any:
        """Return the block's input [b h2 w2 d], projected if its shape must change.

        As the output of a norm it may be an array that is computed in the sum.
        """
        conv, norm = self.layers.conv, self.layers.norm
        if self.project:
            x = conv(self.channels, (1, 1), self.stride, name="shortcut_conv")(x)
            x = norm(name="shortcut_norm")(x, train)
        return x


class BasicBlock(Block):
    """relu(x + F(x)), where F is two 3x3 convolutions. The first has the stride.

    `last_scale_init` is not used, because DeepMind's code zeroes bottlenecks only.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h2 w2 d"]:
        conv, norm, relu = self.layers.conv, self.layers.norm, self.layers.relu
        y = self.strided(self.channels, name="conv1")(x)
        y = relu(norm(name="norm1")(y, train))
        y = conv(self.channels, (3, 3), kernel_dilation=self.dilation, name="conv2")(y)
        y = norm(name="norm2")(y, train)
        return relu(y + self.shortcut(x, train))


class BottleneckBlock(Block):
    """relu(x + F(x)), where F is a 1x1, a 3x3 (with the stride) and a 1x1 convolution.

    Its other kernels are 1x1, so `dilation` changes nothing.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h2 w2 d"]:
        conv, norm, relu = self.layers.conv, self.layers.norm, self.layers.relu
        y = conv(self.channels // 4, (1, 1), name="conv1")(x)
        y = relu(norm(name="norm1")(y, train))
        y = self.strided(self.channels // 4, name="conv2")(y)
        y = relu(norm(name="norm2")(y, train))
        y = conv(self.channels, (1, 1), name="conv3")(y)
        y = norm(name="norm3", scale_init=self.last_scale_init)(y, train)
        return relu(y + self.shortcut(x, train))
