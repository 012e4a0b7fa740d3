"""Convolutions on CPUs in other forms, in plain JAX, where XLA's own are slow.

On CPUs XLA computes 3x3 convolutions of 2x2 maps at a hundredth of the rate of a matrix
product, and 1x1 kernels at a tenth to a half. A convolution is also a single product
with the patches under the kernel. On larger maps that is no faster, and it needs nine
times the memory. 3x3 convolutions of 4 channels become three times as fast if four
neighbouring pixels are joined into one with 16 channels. `experiments/throughput`
measures the gains.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float

from byol_bnfree.cpu.convolution import Padding, Strides, by_xla, plain_case

TINY = 4
"""Largest number of output pixels for which XLA's convolutions are slow."""
WIDE = 64
"""Smallest number of channels for which 1x1 kernels are faster as products."""
FEW = 4
"""Largest number of channels for which 3x3 kernels are faster on joined pixels; also
the number of pixels that are joined."""


def product_conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *arguments,
    **options,
) -> Array:
    """Act as `jax.lax.conv_general_dilated`; in another form where that is faster.

    These are plain convolutions (`plain_case`) with wide 1x1 kernels, tiny maps, or 3x3
    kernels of few channels. XLA computes the rest.
    """
    case = plain_case(lhs, rhs, window_strides, padding, *arguments, **options)
    if case is not None:
        convolution = partial(by_xla, strides=case[0], padding=case[1])
        _, h, w, _ = jax.eval_shape(convolution, lhs, rhs).shape
        kh, kw, *channels = rhs.shape
        if h * w <= TINY or (kh == kw == 1 and channels[0] >= WIDE):
            return by_patches(lhs, rhs, *case)
        # Joined pixels need whole joined columns, before and after the convolution.
        same = case == ((1, 1), ((1, 1), (1, 1)))
        if same and kh == kw == 3 and max(channels) <= FEW and w % FEW == 0:
            return by_pixels_together(lhs, rhs)
    return lax.conv_general_dilated(
        lhs, rhs, window_strides, padding, *arguments, **options
    )


def by_patches(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    strides: Strides,
    padding: Padding,
) -> Float[Array, "b h2 w2 d"]:
    """Compute the convolution as one product with the patches under the kernel."""
    (kh, kw), (down, right) = kernel.shape[:2], strides
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    _, rows, columns, _ = padded.shape
    shifted = [
        padded[:, i : rows - kh + i + 1 : down, j : columns - kw + j + 1 : right]
        for i, j in product(range(kh), range(kw))
    ]
    patches = jnp.concatenate(shifted, axis=-1)
    return jnp.einsum("bhwp,pd->bhwd", patches, kernel.reshape(-1, kernel.shape[-1]))


def by_pixels_together(
    images: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]
) -> Float[Array, "b h w d"]:
    """Compute a 3x3 convolution (stride 1, "SAME") on fewer, wider pixels.

    `FEW` neighbours in a row become one pixel with `FEW` times the channels.
    The kernel for these pixels has an entry of `kernel` for each pair of an input and
    an output that are neighbours, and zeros elsewhere.
    """
    tap, group, source, output = np.ogrid[:3, :3, :FEW, :FEW]
    beside = (group - 1) * FEW + source - output == tap - 1
    placed = jnp.einsum("rtcd,tgso->rgscod", kernel, beside.astype(kernel.dtype))
    placed = rearrange(placed, "r g s c o d -> r g (s c) (o d)")
    joined = rearrange(images, "b h (w s) c -> b h w (s c)", s=FEW)
    outputs = by_xla(joined, placed, (1, 1), ((1, 1), (1, 1)))
    return rearrange(outputs, "b h w (o d) -> b h (w o) d", o=FEW)
