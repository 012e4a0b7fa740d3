"""The deterministic operations of BYOL's augmentation.

P1 is the BYOL paper (arXiv 2006.07733); see its appendix B.

Each operation takes one image [c h w], float32 in [0, 1], and is vmapped over the
batch. Channels come first because XLA on CPUs vectorizes planes but not triples: colour
jitter is five times faster this way. Saturation, hue and grayscale change only images
with three channels.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from byol_bnfree.config import ImageSize, ViewConfig, height_and_width

Image = Float[Array, "c h w"]
Scalar = Float[Array, ""] | float

LUMA = (0.2989, 0.5870, 0.1140)  # ITU-R 601, as in tf.image.rgb_to_grayscale
SMALLEST_CHROMA = 1e-12  # avoids 0 / 0; every result is multiplied by the chroma


def resized_crop(
    image: Image, box: Int[Array, "4"], size: ImageSize
) -> Float[Array, "c h2 w2"]:
    """Resize the box (top, left, height, width) bicubically and clip to [0, 1].

    The result equals cropping and then tf.image.resize: half-pixel centres, no
    antialiasing, and no weight on pixels outside the box.
    `jax.image.scale_and_translate` gives weight to such pixels (errors up to 0.6).
    """
    out_h, out_w = height_and_width(size)
    top, left, crop_h, crop_w = box
    rows = _bicubic_weights(top, crop_h, image.shape[1], out_h)
    columns = _bicubic_weights(left, crop_w, image.shape[2], out_w)
    # By default accelerators would multiply in bfloat16 or TF32.
    resized = jnp.einsum("chw,oh,pw->cop", image, rows, columns, precision="highest")
    return jnp.clip(resized, 0, 1)


def _bicubic_weights(
    start: Int[Array, ""], length: Int[Array, ""], pixels: int, out: int
) -> Float[Array, "out pixels"]:
    """Return the weight of each input pixel in each output pixel, along one axis."""
    source = jnp.arange(pixels)
    centre = start + (jnp.arange(out) + 0.5) * (length / out) - 0.5
    weights = _keys_cubic(jnp.abs(centre[:, None] - source[None]))
    inside = (source >= start) & (source < start + length)
    weights = jnp.where(inside[None], weights, 0)
    return weights / weights.sum(1, keepdims=True)


def _keys_cubic(x: Array) -> Array:
    """Evaluate Keys' cubic kernel (a = -0.5) at distance x >= 0 (Keys 1981, eq. 15)."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


def flip(image: Image) -> Image:
    """Mirror left and right."""
    return image[:, :, ::-1]


def vertical_flip(image: Image) -> Image:
    """Mirror top and bottom."""
    return image[:, ::-1]


def quarter_turns(image: Image, turns: Int[Array, ""]) -> Image:
    """Turn a square image counter-clockwise by 0 to 3 quarters."""
    turned = [jnp.rot90(image, k, axes=(1, 2)) for k in range(4)]
    return jax.lax.select_n(turns, *turned)


def color_jitter(
    image: Image, amounts: Float[Array, "4"], turns: Float[Array, "4"], view: ViewConfig
) -> Image:
    """Apply brightness, contrast, saturation and hue in rising order of `turns`.

    Operations with strength 0 in `view` are left out. Each round computes every
    operation and keeps one, which is cheap enough.
    """
    adjustments = (
        (adjust_brightness, view.brightness),
        (adjust_contrast, view.contrast),
        (adjust_saturation, view.saturation),
        (adjust_hue, view.hue),
    )
    active = [i for i, (_, strength) in enumerate(adjustments) if strength > 0]
    for choice in jnp.argsort(turns[np.array(active, int)]):
        results = [adjustments[i][0](image, amounts[i]) for i in active]
        image = jax.lax.select_n(choice, *results)
    return image


def adjust_brightness(image: Image, amount: Scalar) -> Image:
    """Add `amount`. BYOL's brightness adds; torchvision's multiplies."""
    return jnp.clip(image + amount, 0, 1)


def adjust_contrast(image: Image, amount: Scalar) -> Image:
    """Scale each channel by `amount` around its mean over the image."""
    mean = image.mean((1, 2), keepdims=True)
    return jnp.clip(mean + amount * (image - mean), 0, 1)


def adjust_saturation(image: Image, amount: Scalar) -> Image:
    """Multiply S of HSV by `amount`, up to S = 1.

    H and V stay the same. The distance of a channel from the largest channel then
    scales as S does, so no conversion to HSV is needed.
    """
    if image.shape[0] != 3:
        return image
    value = image.max(0, keepdims=True)
    chroma = value - image.min(0, keepdims=True)  # S = chroma / value
    gain = jnp.minimum(amount, value / jnp.maximum(chroma, SMALLEST_CHROMA))
    return jnp.clip(value - (value - image) * gain, 0, 1)


def adjust_hue(image: Image, amount: Scalar) -> Image:
    """Add `amount` (in turns) to H of HSV. S and V stay the same."""
    if image.shape[0] != 3:
        return image
    red, green, blue = image
    value = image.max(0)
    chroma = value - image.min(0)
    scale = 1 / jnp.maximum(chroma, SMALLEST_CHROMA)
    # Comparisons of channels, because `red == value` is unsafe: XLA may compute the two
    # with a different last bit. Where the two largest channels are equal, both branches
    # give the same hue; if no branch matched, the hue would be wrong.
    hue = jnp.where(  # in sixths of a turn: red 0, green 2, blue 4
        (red >= green) & (red >= blue),
        (green - blue) * scale,
        jnp.where(green >= blue, (blue - red) * scale + 2, (red - green) * scale + 4),
    )
    primaries = jnp.array([0.0, 2.0, 4.0])
    distance = (hue + 6 * amount)[None] - primaries[:, None, None]
    distance = distance - 6 * jnp.floor(distance / 6)
    # A channel is full within a sixth of a turn of its primary, and 0 beyond two
    # sixths.
    share = jnp.clip(jnp.abs(distance - 3) - 1, 0, 1)
    return jnp.clip(value[None] - chroma[None] * (1 - share), 0, 1)


def grayscale(image: Image) -> Image:
    """Put the luma into all three channels."""
    if image.shape[0] != 3:
        return image
    luma = jnp.einsum("chw,c->hw", image, jnp.array(LUMA), precision="highest")
    return jnp.broadcast_to(luma[None], image.shape)


def gaussian_blur(image: Image, sigma: Scalar) -> Image:
    """Blur with a Gaussian of `sigma` pixels, cut off at a twentieth of the height.

    Pixels beyond the edges count as zero. The horizontal pass comes first. Images below
    20 pixels are not blurred, because the kernel is a single pixel. The sum of shifted
    images is 20 times faster than a convolution, which vmap would turn into a grouped
    convolution.
    """
    radius = int(image.shape[1] / 10 / 2)
    if radius == 0:
        return image
    kernel = jnp.exp(-(jnp.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    for axis in (2, 1):
        pad = [(radius, radius) if axis == a else (0, 0) for a in range(3)]
        padded, pixels = jnp.pad(image, pad), image.shape[axis]
        image = sum(
            weight * jax.lax.slice_in_dim(padded, i, i + pixels, axis=axis)
            for i, weight in enumerate(kernel)
        )
    return image


def solarize(image: Image, threshold: Scalar) -> Image:
    """Invert all values at or above the threshold."""
    return jnp.where(image < threshold, image, 1 - image)
