"""Random colours for depth: they change a picture, but not how far things are.

P1 (BYOL, arXiv 2006.07733), appendix D.6: grayscale with probability 0.3, brightness
up to 0.1255, saturation from 0.5 to 1.5, and hue up to 0.2 turns.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from byol_bnfree.data.image_ops import (
    adjust_brightness,
    adjust_hue,
    adjust_saturation,
    grayscale,
)

GRAY, BRIGHTNESS, SATURATION, HUE = 0.3, 0.1255, (0.5, 1.5), 0.2


def random_colours(key: Array, pixels: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """Change the colours of a picture in [0, 1]."""
    keys = jax.random.split(key, 4)
    image = rearrange(pixels, "h w c -> c h w")
    brightness, hue = (
        jax.random.uniform(k, (), minval=-limit, maxval=limit)
        for k, limit in ((keys[0], BRIGHTNESS), (keys[1], HUE))
    )
    low, high = SATURATION
    saturation = jax.random.uniform(keys[2], (), minval=low, maxval=high)
    image = adjust_brightness(image, brightness)
    image = adjust_hue(adjust_saturation(image, saturation), hue)
    gray = jax.random.bernoulli(keys[3], GRAY)
    image = jnp.where(gray, grayscale(image), image)
    return rearrange(image, "c h w -> h w c")
