"""Where the places of a feature map lie on the picture.

It follows from the padding of the stages with stride 2 (`models.resnet.PADDINGS`):

- An odd side is padded equally at both ends. Place i of the stage lies on place 2i of
  the map before.
- PyTorch's padding is the same for even sides.
- "same" pads an even side at its end only. The 3x3 convolution of place i then lies
  around place 2i + 1 of the map before, and the shortcut lies on place 2i. Their mean
  is half a place after 2i.
- The stem has no shortcut. Under "same" its convolution and its pooling lie a whole
  place after 2i where the side is even.

A map of a smaller stride, by dilation or by an up-projection, holds the places of the
network's own last map and others between them. So its first place is the same.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.models.resnet import ResNet


class Grid(NamedTuple):
    """What a network tells about the places of its maps, on pictures of any size."""

    stride: int
    """Total stride of the network without dilation."""
    start: bool
    """Each place lies on the first of its pixels, as with PyTorch's padding."""
    stem: tuple[tuple[int, int], ...] = ()
    """Size and stride of the windows of the stem: its convolution and its pooling."""


def grid_of(module: ResNet) -> Grid:
    """Return the grid of a network. It is the same for all output strides."""
    own = module.with_output_stride(None)
    stem = ((7, 2), (3, 2)) if own.stem == "imagenet" else ((3, own.stem_stride),)
    return Grid(own.total_stride, own.padding != "same", stem)


def stride_of(size: tuple[int, int], counts: tuple[int, int]) -> int:
    """Return the stride of a map with these places on a picture of this size.

    Strides are powers of two, and maps are rounded up.
    """
    ratio = max(side / count for side, count in zip(size, counts, strict=True))
    return 2 ** math.ceil(math.log2(ratio))


def first_place(side: int, grid: Grid) -> float:
    """Return where place 0 lies on a side of this length, in pixels from the edge.

    Every stage halves the side, rounded up.
    """
    first, step = 0.5, 1
    for window, stride in grid.stem:
        count = -(-side // stride)
        padded = max((count - 1) * stride + window - side, 0)
        before = window // 2 if grid.start else padded // 2
        first += step * ((window - 1) / 2 - before)
        side, step = count, stride * step
    while step < grid.stride:
        if not grid.start and side % 2 == 0:
            first += step / 2
        side, step = -(-side // 2), 2 * step
    return first


def places(
    size: tuple[int, int], counts: tuple[int, int], grid: Grid
) -> Float[Array, "h w 2"]:
    """Return the point (y, x) of each place, in pixels from the picture's edge.

    `size` is the picture's, and `counts` are the places [h w] of the map.
    """
    stride = stride_of(size, counts)
    axes = (
        first_place(side, grid) + stride * jnp.arange(count)
        for side, count in zip(size, counts, strict=True)
    )
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
