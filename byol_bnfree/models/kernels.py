"""The operations of which layers are made, as equations.

`XLA` computes them as they stand here. Other `Kernels` compute the same, faster on some
machine (`byol_bnfree.cpu`), and are tested equal to it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from einops import reduce, repeat
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError
from byol_bnfree.models.standardize import weight_standardize

EPSILON = 1e-5  # of BatchNorm (DeepMind's configs/byol.py) and GroupNorm

Moments = Float[Array, "n g"]
"""One number for each block of images and each group of channels."""


class Kernels(NamedTuple):
    """Functions that layers call; the words say which they are, for people."""

    conv: Callable[..., Array]
    """As `lax.conv_general_dilated`."""
    dense: Callable[..., Array]
    """As `lax.dot_general`."""
    std_conv: Callable[..., Array]
    """`conv` by `weight_standardize` of its kernel, which is float32."""
    std_dense: Callable[..., Array]
    """`dense` by `weight_standardize` of its kernel, which is float32."""
    normalize: Callable[..., tuple[Any, Moments, Moments]]
    """As `normalize`. What it gives may be added to and given to `relu`: kernels may do
    all three in one pass, so other functions take it as `jnp.asarray` only."""
    relu: Callable[[Any], Array]
    max_pool: Callable[..., Array]
    """As `max_pool`."""
    words: str
    slow_loops: bool = False
    """Gradients are slow inside a loop: better copy its body."""


def standardized(product: Callable[..., Array]) -> Callable[..., Array]:
    """The same product by the standardized kernel: `product(x, kernel, ...)`."""

    def by_standardized(x: Array, kernel: Array, *arguments, **options) -> Array:
        kernel = weight_standardize(kernel).astype(x.dtype)
        return product(x, kernel, *arguments, **options)

    return by_standardized


def normalize(
    x: Float[Array, "b ... c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    *,
    images: int,
    groups: int,
    views: int = 1,
) -> tuple[Float[Array, "b ... c"], Moments, Moments]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, and mean and variance.

    Statistics are of blocks of `images` images and of `groups` equal groups of
    channels: one image and g groups are GroupNorm, all images and a group for each
    channel BatchNorm. Of n `views` side by side (image i is of view i mod n) each has
    blocks of its own; mean and variance then have one row for each view in turn.
    Computed in float32; y has the dtype of x.

    Raises:
      InputError: images or channels that cannot be cut into equal parts.
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
    """The equation of `normalize`, by moments that are known."""
    inverse = lax.rsqrt(variance + EPSILON)
    scale, bias = (z.reshape((1,) * (x.ndim - 1) + z.shape) for z in (scale, bias))
    return ((x.astype(jnp.float32) - mean) * inverse * scale + bias).astype(x.dtype)


def _moments(
    x: Float[Array, "b ... c"], images: int, groups: int, views: int
) -> tuple[Moments, Moments]:
    """E[x] and E[x^2] - E[x]^2 (DeepMind's way) over pixels, images and channels."""
    x = x.astype(jnp.float32)
    pixels = tuple(range(1, x.ndim - 1))

    def mean(z: Float[Array, "b ... c"]) -> Moments:
        # Of each channel first: XLA tiles the channels, and cutting them costs a copy.
        axes, sizes = "(n i v) (g c) -> (n v) g", {"i": images, "v": views, "g": groups}
        return reduce(z.mean(pixels), axes, "mean", **sizes)

    first = mean(x)
    return first, jnp.maximum(mean(jnp.square(x)) - jnp.square(first), 0.0)


def check_blocks(shape: tuple[int, ...], images: int, groups: int, views: int) -> None:
    """`InputError` unless images and channels can be cut into equal parts."""
    if min(images, groups, views) < 1 or shape[0] % (images * views):
        raise InputError(
            f"a batch of {shape[0]} images cannot be cut into blocks of {images} "
            f"images, apart for {views} views; choose a batch size that they divide."
        )
    if shape[-1] % groups:
        raise InputError(
            f"a layer of {shape[-1]} channels cannot be cut into {groups} equal "
            f"groups; choose a number of groups that divides it."
        )


def max_pool(
    x: Float[Array, "b h w c"], padding: str | tuple[tuple[int, int], ...] = "SAME"
) -> Float[Array, "b h2 w2 c"]:
    """Largest of 3x3 at stride 2; the gradient goes to the first of equal ones."""
    return nn.max_pool(x, (3, 3), (2, 2), padding)


XLA = Kernels(
    conv=lax.conv_general_dilated,
    dense=lax.dot_general,
    std_conv=standardized(lax.conv_general_dilated),
    std_dense=standardized(lax.dot_general),
    normalize=normalize,
    relu=nn.relu,
    max_pool=max_pool,
    words="XLA",
)
"""Each operation as its equation, for any device and type."""
