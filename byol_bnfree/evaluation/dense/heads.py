"""The heads of segmentation and depth: from the last map to a value per pixel.

Their norms and convolutions are those of the encoder's norm, so `gn_ws` stays free of
batch statistics. Predicting layers have a bias, no norm, and plain kernels.
"""

import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.evaluation.dense.places import Grid, first_place, stride_of
from byol_bnfree.models.norm import Layers

FCN_WIDTH, FCN_DILATION = 256, 6  # P1 appendix D.4
UP = (512, 256, 128, 64)  # channels of the up-projections on a map of 2048 (P1 D.6)
ENCODER_CHANNELS = 2048  # of a ResNet-50
FEWEST = 16  # channels of an up-projection on a narrow encoder


class LinearHead(nn.Module):
    """One linear layer on the map, for every place by itself."""

    outputs: int

    @nn.compact
    def __call__(
        self, maps: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h w k"]:
        return _predict(self.outputs)(maps)


class FcnHead(nn.Module):
    """Two 3x3 convolutions with norm and ReLU, and a linear layer: class scores.

    P1 appendix D.4: 256 channels and dilation 6.
    """

    outputs: int
    layers: Layers
    width: int = FCN_WIDTH
    dilation: int = FCN_DILATION

    @nn.compact
    def __call__(
        self, maps: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h w k"]:
        conv, norm, relu = self.layers.conv, self.layers.norm, self.layers.relu
        x = maps
        for index in (1, 2):
            x = conv(
                self.width,
                (3, 3),
                kernel_dilation=self.dilation,
                name=f"conv{index}",
            )(x)
            x = relu(norm(name=f"norm{index}")(x, train))
        return _predict(self.outputs)(x)


class DepthHead(nn.Module):
    """Up-projections that double the map, and a 3x3 convolution: the depth.

    P1 appendix D.6 has four of 512, 256, 128 and 64 channels, on 2048 channels of
    stride 32. They end at stride 2. `blocks` is smaller where the encoder's stride is,
    and the channels are the same shares of the encoder's.
    """

    layers: Layers
    blocks: int = len(UP)

    @nn.compact
    def __call__(
        self, maps: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h2 w2 1"]:
        x, share = maps, maps.shape[-1] / ENCODER_CHANNELS
        for index, channels in enumerate(UP[: self.blocks]):
            width = max(FEWEST, round(channels * share))
            x = UpProjection(width, self.layers, name=f"up{index}")(x, train)
        return nn.Conv(1, (3, 3), name="depth")(x)


class UpProjection(nn.Module):
    """relu(A(x) + B(x)) at twice the size (arXiv 1606.00373, figure 2).

    A is an up-convolution with norm and ReLU, and a 3x3 convolution with norm. B is an
    up-convolution with norm.
    """

    channels: int
    layers: Layers

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h2 w2 d"]:
        conv, norm, relu = self.layers.conv, self.layers.norm, self.layers.relu
        y = UpConvolution(self.channels, self.layers, name="up1")(x)
        y = relu(norm(name="norm1")(y, train))
        y = conv(self.channels, (3, 3), name="conv2")(y)
        y = norm(name="norm2")(y, train)
        x = UpConvolution(self.channels, self.layers, name="shortcut_up")(x)
        return relu(y + jnp.asarray(norm(name="shortcut_norm")(x, train)))


class UpConvolution(nn.Module):
    """Double the map: the fast form of unpooling with zeros and a 5x5 convolution.

    Of the 25 taps of a 5x5 kernel, an output pixel meets only those on true pixels. By
    its row and column they are 3x3, 3x2, 2x3 or 2x2. So four small convolutions give
    the four kinds of pixels, and no product with a zero is computed (arXiv 1606.00373,
    figure 3). Weight standardization treats each of the four kernels
    alone.
    """

    channels: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        conv = self.layers.conv
        # Even outputs see the pixel and both neighbours, odd ones the pixel and the
        # next.
        sides = {"even": (3, (1, 1)), "odd": (2, (0, 1))}
        parts = [
            conv(
                self.channels,
                (rows, columns),
                padding=(above, beside),
                name=f"conv_{row}_{column}",
            )(x)
            for row, (rows, above) in sides.items()
            for column, (columns, beside) in sides.items()
        ]
        return rearrange(parts, "(r s) b h w c -> b (h r) (w s) c", r=2, s=2)


def resized(
    maps: Float[Array, "b h w k"], size: tuple[int, int], grid: Grid
) -> Float[Array, "b h2 w2 k"]:
    """Resize maps to the size of the picture, bilinearly.

    A pixel lies between the places that `places.places` gives. Beyond the outer places
    the map is constant.
    """
    counts = maps.shape[1:3]
    stride = stride_of(size, counts)
    rows, columns = (
        _shares(side, count, (first_place(side, grid), stride))
        for side, count in zip(size, counts, strict=True)
    )
    return jnp.einsum("bhwk,yh,xw->byxk", maps, rows, columns, precision="highest")


def _shares(
    side: int, count: int, line: tuple[float, int]
) -> Float[Array, "side count"]:
    """Return the share of each place in each pixel; `line` is first place and stride.

    The shares of a pixel sum to 1.
    """
    first, stride = line
    at = jnp.clip((jnp.arange(side) + 0.5 - first) / stride, 0, count - 1)
    return jnp.maximum(0, 1 - jnp.abs(at[:, None] - jnp.arange(count)[None]))


def _predict(outputs: int) -> nn.Module:
    return nn.Dense(
        outputs, kernel_init=nn.initializers.normal(0.01), name="prediction"
    )
