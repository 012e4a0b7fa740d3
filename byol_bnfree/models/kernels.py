"""The operations that layers are made of, as equations.

`XLA` computes them as written here. `byol_bnfree.cpu` provides faster `Kernels` for
CPUs. Tests compare them with the equations.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from einops import reduce, repeat
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError
from byol_bnfree.models.standardize import weight_standardize

EPSILON = 1e-5  # for BatchNorm (DeepMind's configs/byol.py) and for GroupNorm

Moments = Float[Array, "n g"]
"""One number for each block of images and each group of channels."""


class Kernels(NamedTuple):
    """The functions that layers call. `words` names the implementation for people."""

    conv: Callable[..., Array]
    """Convolution; called like `lax.conv_general_dilated`."""
    dense: Callable[..., Array]
    """Matrix product; called like `lax.dot_general`."""
    std_conv: Callable[..., Array]
    """`conv` with a standardized kernel. The given kernel is float32."""
    std_dense: Callable[..., Array]
    """`dense` with a standardized kernel. The given kernel is float32."""
    normalize: Callable[..., tuple[Any, Moments, Moments]]
    """Called like `normalize` below. Its first result may be added to an array and
    passed to `relu`, because a kernel may compute all three in one pass. Any other
    function must convert it with `jnp.asarray` first."""
    relu: Callable[[Any], Array]
    max_pool: Callable[..., Array]
    """Called like `max_pool` below."""
    words: str
    slow_loops: bool = False
    """True if gradients are slow inside a loop. Callers then unroll the loop."""


def with_plain_arrays(kernels: Kernels) -> Kernels:
    """Return kernels for code that may do anything with a normalized array.

    `normalize` then returns an array at once, so nothing joins its pass.
    """
    return kernels._replace(normalize=partial(_computed, kernels.normalize))


def _computed(
    normalize: Callable[..., tuple[Any, Moments, Moments]], x: Array, *given, **options
) -> tuple[Array, Moments, Moments]:
    y, mean, variance = normalize(x, *given, **options)
    return jnp.asarray(y), mean, variance


def by_standardized(
    product: Callable[..., Array], x: Array, kernel: Array, *arguments, **options
) -> Array:
    """Return `product(x, kernel, ...)` with weight standardization of the kernel."""
    kernel = weight_standardize(kernel).astype(x.dtype)
    return product(x, kernel, *arguments, **options)


def by_unit_kernels(
    std_product: Callable[..., Array], x: Array, kernel: Array, *arguments, **options
) -> Array:
    """Return `std_product(x, kernel, ...)` for a kernel of variance 1 (1903.10520).

    `weight_standardize` gives it variance 1 / fan_in. The output is scaled by
    sqrt(fan_in) instead of the kernel, so any `std_product` serves.
    """
    fan_in = math.prod(kernel.shape[:-1])
    return std_product(x, kernel, *arguments, **options) * math.sqrt(fan_in)


def normalize(
    x: Float[Array, "b ... c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    *,
    images: int,
    groups: int,
    views: int = 1,
) -> tuple[Float[Array, "b ... c"], Moments, Moments]:
    """Return (x - mean) / sqrt(variance + epsilon) * scale + bias, mean and variance.

    One mean and one variance belong to each block of `images` images and each of
    `groups` equal groups of channels. GroupNorm has blocks of one image and g groups.
    BatchNorm has one block of all images and one group per channel.

    With n `views`, image i belongs to view i mod n, and each view has its own blocks.
    The rows of mean and variance then cycle through the views.

    Statistics and the result are computed in float32. The result has the dtype of x.

    Raises:
      InputError: if the images or the channels cannot be cut into equal parts.
    """
    check_blocks(x.shape, images, groups, views)
    mean, variance = _moments(x, images, groups, views)

    def of_each_image(moment: Moments) -> Float[Array, "b ... c"]:
        sizes = {"i": images, "v": views, "c": x.shape[-1] // groups}
        moment = repeat(moment, "(n v) g -> (n i v) (g c)", **sizes)
        return jnp.expand_dims(moment, tuple(range(1, x.ndim - 1)))

    y = with_moments(x, of_each_image(mean), of_each_image(variance), scale, bias)
    return y, mean, variance


def with_moments(
    x: Float[Array, "b ... c"],
    mean: Float[Array, "#b ... c"],
    variance: Float[Array, "#b ... c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
) -> Float[Array, "b ... c"]:
    """Compute the equation of `normalize` with given moments."""
    inverse = lax.rsqrt(variance + EPSILON)
    scale, bias = (z.reshape((1,) * (x.ndim - 1) + z.shape) for z in (scale, bias))
    return ((x.astype(jnp.float32) - mean) * inverse * scale + bias).astype(x.dtype)


def _moments(
    x: Float[Array, "b ... c"], images: int, groups: int, views: int
) -> tuple[Moments, Moments]:
    """Return E[x] and E[x^2] - E[x]^2, as DeepMind does, for each block and group."""
    x = x.astype(jnp.float32)
    pixels = tuple(range(1, x.ndim - 1))

    def mean(z: Float[Array, "b ... c"]) -> Moments:
        # Average each channel over the pixels first. XLA tiles the channels, and
        # splitting that axis of the full array would cost a copy.
        axes, sizes = "(n i v) (g c) -> (n v) g", {"i": images, "v": views, "g": groups}
        return reduce(z.mean(pixels), axes, "mean", **sizes)

    first = mean(x)
    # Rounding can make the difference slightly negative.
    return first, jnp.maximum(mean(jnp.square(x)) - jnp.square(first), 0.0)


def check_blocks(shape: tuple[int, ...], images: int, groups: int, views: int) -> None:
    """Raise `InputError` unless images and channels can be cut into equal parts."""
    if min(images, groups, views) < 1 or shape[0] % (images * views):
        raise InputError(
            f"a batch of {shape[0]} images cannot be cut into blocks of {images} "
            f"images for {views} views; make the batch a multiple of the block size "
            f"times the views."
        )
    if shape[-1] % groups:
        raise InputError(
            f"a layer of {shape[-1]} channels cannot be cut into {groups} equal "
            f"groups; choose a number of groups that divides it."
        )


def max_pool(
    x: Float[Array, "b h w c"], padding: str | tuple[tuple[int, int], ...] = "SAME"
) -> Float[Array, "b h2 w2 c"]:
    """Take the maximum of 3x3 pixels at stride 2.

    Among equal pixels, the gradient goes to the first.
    """
    return nn.max_pool(x, (3, 3), (2, 2), padding)


def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return max(x, 0). Unlike `nn.relu` itself, this function can be pickled."""
    return nn.relu(x)


XLA = Kernels(
    conv=lax.conv_general_dilated,
    dense=lax.dot_general,
    std_conv=partial(by_standardized, lax.conv_general_dilated),
    std_dense=partial(by_standardized, lax.dot_general),
    normalize=normalize,
    relu=relu,
    max_pool=max_pool,
    words="XLA",
)
"""Every operation as its equation, on any device and for any dtype."""
