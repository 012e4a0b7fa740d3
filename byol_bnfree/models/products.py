"""Convolutions on CPU as matrix products, in plain JAX, where XLA's own are slow.

XLA:CPU takes 3x3 convolutions of 2x2 maps at a hundredth of the rate of a matrix
product, and 1x1 kernels at a tenth to a half. A convolution is also one product: of
the patches under the kernel. On larger maps that is no faster and takes nine times
the memory. `experiments/throughput` says by how much.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from byol_bnfree.models.conv import Padding, Strides, by_xla, plain_case

TINY = 4
"""Pixels of output maps, at most, on which XLA's convolutions are slow."""
WIDE = 64
"""Channels, at least, of which 1x1 kernels are faster as products."""


def product_conv_general_dilated(
    lhs: Float[Array, "b h w c"],
    rhs: Float[Array, "kh kw c d"],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dimension_numbers: lax.ConvDimensionNumbers | None = None,
    **options,
) -> Float[Array, "b h2 w2 d"]:
    """`jax.lax.conv_general_dilated`; by products where the case is plain.

    Plain is what `plain_case` says, wide 1x1 kernels and tiny maps. The rest is XLA's.
    """
    case = plain_case(lhs, rhs, window_strides, padding, dimension_numbers, options)
    if case is not None:
        convolution = partial(by_xla, strides=case[0], padding=case[1])
        _, h, w, _ = jax.eval_shape(convolution, lhs, rhs).shape
        kh, kw, channels, _ = rhs.shape
        if h * w <= TINY or (kh == kw == 1 and channels >= WIDE):
            return by_patches(lhs, rhs, *case)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        dimension_numbers=dimension_numbers,
        **options,
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
