"""Where the places of a feature map lie on the picture.

It follows from the padding of the stages with stride 2 (`models.resnet.PADDINGS`):

- An odd side is padded equally at both ends, so place i lies on pixel i * stride. The
  corners are aligned, as with P1's window of 513.
- PyTorch's padding is the same for even sides.
- "same" pads an even side at its end only. Every stage moves its places by half a
  pixel, so place i lies at the middle of its `stride` pixels.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from byol_bnfree.models.resnet import ResNet


def at_start(module: ResNet) -> bool:
    """Return True if a network's places lie on the first of their pixels."""
    return module.padding != "same"


def stride_of(size: tuple[int, int], counts: tuple[int, int]) -> int:
    """Return the stride of a map with these places on a picture of this size.

    Strides are powers of two, and maps are rounded up.
    """
    ratio = max(side / count for side, count in zip(size, counts, strict=True))
    return 2 ** math.ceil(math.log2(ratio))


def on_first_pixel(count: int, side: int, start: bool) -> bool:
    """Return True if place i of a side lies on pixel i * stride; `start`: `at_start`.

    An odd side has a place per stride, and one.
    """
    if start:
        return True
    if count < 2 or side % 2 == 0 or (side - 1) % (count - 1):
        return False
    stride = (side - 1) // (count - 1)
    return stride & (stride - 1) == 0


def places(
    size: tuple[int, int], counts: tuple[int, int], start: bool
) -> Float[Array, "h w 2"]:
    """Return the point (y, x) of each place, in pixels from the picture's edge.

    `size` is the picture's, and `counts` are the places [h w] of the map.
    """
    stride = stride_of(size, counts)
    axes = (
        jnp.arange(count) * stride
        + (0.5 if on_first_pixel(count, side, start) else stride / 2)
        for side, count in zip(size, counts, strict=True)
    )
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
