"""One random view of one image: its random numbers, and the operations they drive.

`draw_view` draws all random numbers of a view. `apply_view` applies them with the
deterministic operations of `image_ops`.

P1 is the BYOL paper (arXiv 2006.07733); the augmentation is in its appendix B.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from byol_bnfree.config import ImageSize, ViewConfig, height_and_width
from byol_bnfree.data.image_ops import (
    Image,
    Scalar,
    color_jitter,
    flip,
    gaussian_blur,
    grayscale,
    quarter_turns,
    resized_crop,
    solarize,
    vertical_flip,
)
from byol_bnfree.errors import InputError


def random_view(
    key: PRNGKeyArray, image: Image, view: ViewConfig, crop_to: ImageSize | None
) -> Float[Array, "c h2 w2"]:
    """Draw one view of one image. With `crop_to` None the image is not cropped."""
    height, width = height_and_width(crop_to or 1)
    draw = draw_view(key, image.shape[1:], view, width / height)
    return apply_view(image, draw, view, crop_to)


class ViewDraw(NamedTuple):
    """The random numbers of one view of one image."""

    box: Int[Array, "4"]
    """Top, left, height and width of the crop; whole pixels inside the image."""
    flip: Bool[Array, ""]
    jitter: Bool[Array, ""]
    amounts: Float[Array, "4"]
    """Amounts of brightness, contrast, saturation and hue."""
    turns: Float[Array, "4"]
    """Sort keys. The four operations are applied in rising order of their keys."""
    grayscale: Bool[Array, ""]
    blur: Bool[Array, ""]
    sigma: Float[Array, ""]
    """Standard deviation of the blur, in pixels."""
    solarize: Bool[Array, ""]
    vertical_flip: Bool[Array, ""]
    quarters: Int[Array, ""]
    """Number of quarter turns, 0 to 3."""


def draw_view(
    key: PRNGKeyArray,
    image_size: tuple[int, int],
    view: ViewConfig,
    shape: float = 1.0,
) -> ViewDraw:
    """Draw the random numbers of one view of an image with this height and width.

    `shape` is the view's width over its height, around which the crop's is drawn.

    All numbers come from one call of the generator, because each call takes longer to
    compile than an image operation. Every number has a fixed place. Switching one
    operation off therefore does not change the draws of the others.
    """
    numbers = jax.random.uniform(key, (20,))  # a longer draw would keep the first 20
    # Brightness and hue are shifts. Contrast and saturation are factors around 1.
    strengths = (view.brightness, view.contrast, view.saturation, view.hue)
    amounts = (2 * numbers[4:8] - 1) * jnp.array(strengths)
    return ViewDraw(
        box=_crop_box(numbers[:4], image_size, view, shape),
        amounts=amounts + jnp.array([0.0, 1.0, 1.0, 0.0]),
        turns=numbers[8:12],
        sigma=_between(view.blur_sigma, numbers[12]),
        flip=numbers[13] < view.flip,
        jitter=numbers[14] < view.jitter,
        grayscale=numbers[15] < view.grayscale,
        blur=numbers[16] < view.blur,
        solarize=numbers[17] < view.solarize,
        vertical_flip=numbers[18] < view.vertical_flip,
        quarters=_quarters(numbers[19], view.quarter_turn),
    )


def _quarters(number: Scalar, chance: float) -> Int[Array, ""]:
    """Return 0 with probability 1 - chance, otherwise 1, 2 or 3."""
    turned = jnp.floor(3 * number / max(chance, 1e-6)).astype(jnp.int32)
    return jnp.where(number < chance, 1 + jnp.minimum(turned, 2), 0)


def _between(limits: tuple[float, float], number: Scalar) -> Scalar:
    return limits[0] + (limits[1] - limits[0]) * number


def _crop_box(
    numbers: Float[Array, "4"],
    image_size: tuple[int, int],
    view: ViewConfig,
    shape: float,
) -> Int[Array, "4"]:
    """Draw a box once and clip it to the image.

    torchvision draws up to ten times and then takes the centre.
    """
    height, width = image_size
    area = height * width * _between(view.crop_area, numbers[0])
    low, high = view.crop_aspect
    # In logarithms a ratio and its inverse are equally likely.
    aspect = jnp.exp(_between((math.log(low), math.log(high)), numbers[1]))
    aspect = aspect if shape == 1 else aspect * shape
    crop_h = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, height)
    crop_w = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, width)
    # A number just below 1 may round up to one offset too many.
    top = jnp.minimum(jnp.floor(numbers[2] * (height - crop_h + 1)), height - crop_h)
    left = jnp.minimum(jnp.floor(numbers[3] * (width - crop_w + 1)), width - crop_w)
    return jnp.stack([top, left, crop_h, crop_w]).astype(jnp.int32)


def apply_view(
    image: Image, draw: ViewDraw, view: ViewConfig, crop_to: ImageSize | None
) -> Float[Array, "c h2 w2"]:
    """Apply the drawn operations in BYOL's order, then clip to [0, 1]."""
    if crop_to is not None:
        image = resized_crop(image, draw.box, crop_to)
    jitter = partial(color_jitter, amounts=draw.amounts, turns=draw.turns, view=view)
    blur = partial(gaussian_blur, sigma=draw.sigma)
    invert = partial(solarize, threshold=view.solarize_threshold)
    image = _choose(view.flip, draw.flip, flip, image)
    image = _choose(view.vertical_flip, draw.vertical_flip, vertical_flip, image)
    if view.quarter_turn > 0:
        image = quarter_turns(_square(image), draw.quarters)
    image = _choose(view.jitter, draw.jitter, jitter, image)
    image = _choose(view.grayscale, draw.grayscale, grayscale, image)
    image = _choose(view.blur, draw.blur, blur, image)
    image = _choose(view.solarize, draw.solarize, invert, image)
    return jnp.clip(image, 0, 1)


def _square(image: Image) -> Image:
    if image.shape[1] != image.shape[2]:
        raise InputError(
            f"quarter_turn needs square views, but these are {image.shape[1]}x"
            f"{image.shape[2]}; set --data.image-size or leave quarter-turn at 0."
        )
    return image


def _choose(
    probability: float,
    chosen: Bool[Array, ""],
    operation: Callable[[Image], Image],
    image: Image,
) -> Image:
    """Return the operation's result if chosen.

    Probabilities 0 and 1 are decided at tracing. Otherwise both results are computed;
    under vmap `lax.cond` would do the same.
    """
    if probability <= 0:
        return image
    if probability >= 1:
        return operation(image)
    return jnp.where(chosen, operation(image), image)
