"""Convolutions on CPU in another form, in plain JAX, where XLA's own are slow.

XLA:CPU takes 3x3 convolutions of 2x2 maps at a hundredth of the rate of a matrix
product, and 1x1 kernels at a tenth to a half. A convolution is also one product: of
the patches under the kernel. On larger maps that is no faster and takes nine times
the memory. 3x3 convolutions of 4 channels it takes three times as fast where four
neighbouring pixels are one of 16 channels. `experiments/throughput` says by how much.
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
"""Pixels of output maps, at most, on which XLA's convolutions are slow."""
WIDE = 64
"""Channels, at least, of which 1x1 kernels are faster as products."""
FEW = 4
"""Channels, at most, of which 3x3 kernels are faster on as many pixels together."""


def product_conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *arguments,
    **options,
) -> Array:
    """`jax.lax.conv_general_dilated`; in another form where the case is plain.

    Plain is what `plain_case` says, and wide 1x1 kernels, tiny maps, or 3x3 kernels of
    few channels. The rest is XLA's.
    """
    case = plain_case(lhs, rhs, window_strides, padding, *arguments, **options)
    if case is not None:
        convolution = partial(by_xla, strides=case[0], padding=case[1])
        _, h, w, _ = jax.eval_shape(convolution, lhs, rhs).shape
        kh, kw, *channels = rhs.shape
        if h * w <= TINY or (kh == kw == 1 and channels[0] >= WIDE):
            return by_patches(lhs, rhs, *case)
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
    """The convolution as one product of the pixels under the kernel."""
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
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "3 3 c d"],
    together: int = FEW,
) -> Float[Array, "b h w d"]:
    """A 3x3 convolution at stride 1, as large as the images, as one of fewer pixels.

    `together` neighbours in a row become one pixel of as many times the channels. In
    the kernel of those an entry of `kernel` stands wherever an input is beside an
    output as it says; most entries are zero.
    """
    tap, group, source, output = np.ogrid[:3, :3, :together, :together]
    beside = (group - 1) * together + source - output == tap - 1
    placed = jnp.einsum("rtcd,tgso->rgscod", kernel, beside.astype(kernel.dtype))
    placed = rearrange(placed, "r g s c o d -> r g (s c) (o d)")
    joined = rearrange(images, "b h (w s) c -> b h w (s c)", s=together)
    outputs = by_xla(joined, placed, (1, 1), ((1, 1), (1, 1)))
    return rearrange(outputs, "b h w (o d) -> b h (w o) d", o=together)
