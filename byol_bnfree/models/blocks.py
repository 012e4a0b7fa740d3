"""The two blocks of residual networks (He et al. 2016): relu(x + F(x))."""

from functools import partial

from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.models.norm import Layers

Padding = str | tuple[tuple[int, int], ...]


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
