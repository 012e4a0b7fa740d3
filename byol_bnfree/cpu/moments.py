"""`models.kernels.normalize` in a form that XLA runs quickly on CPUs."""

import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float

from byol_bnfree.models.kernels import EPSILON, Moments, check_blocks


def normalize(
    x: Float[Array, "b ... c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    *,
    images: int,
    groups: int,
    views: int = 1,
) -> tuple[Float[Array, "b ... c"], Moments, Moments]:
    """Compute factor * x + offset: one multiplication and one addition per pixel.

    Means reduce all axes at once, without merging the axes first: merged axes make the
    gradient 20 times slower in XLA on CPUs. Statistics of a group come from the means
    of its channels, which is a third faster than from the pixels.
    """
    check_blocks(x.shape, images, groups, views)
    # A block of one image needs no axis for its images, and none for views.
    cut = "b ... c -> b 1 1 ... c" if images == 1 else "(n i v) ... c -> n i v ... c"
    sizes = {} if images == 1 else {"i": images, "v": views}
    blocks = rearrange(x, cut, **sizes)
    others = (1, *range(3, blocks.ndim - 1))

    def mean(z: Array) -> Float[Array, "n v g"]:
        return rearrange(z.mean(others), "n v (g k) -> n v g k", g=groups).mean(-1)

    pixels = blocks.astype(jnp.float32)
    average = mean(pixels)
    # Rounding can make the difference slightly negative.
    variance = jnp.maximum(mean(jnp.square(pixels)) - jnp.square(average), 0.0)
    scale, bias = (rearrange(z, "(g k) -> 1 1 g k", g=groups) for z in (scale, bias))
    factor = lax.rsqrt(variance + EPSILON)[..., None] * scale
    offset = bias - average[..., None] * factor
    factor, offset = (
        jnp.expand_dims(rearrange(z, "n v g k -> n v (g k)"), others)
        for z in (factor, offset)
    )
    y = (pixels * factor + offset).astype(x.dtype).reshape(x.shape)
    return y, average.reshape(-1, groups), variance.reshape(-1, groups)
