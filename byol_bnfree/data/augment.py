"""BYOL's image augmentation, on the device and with a random key for each example.

`two_views` draws all random numbers of a view (`draw_view`). It then applies them
(`apply_view`) with the deterministic operations of `image_ops`, one example at a time.

P1 is the BYOL paper (arXiv 2006.07733); the augmentation is in its appendix B.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from byol_bnfree.config import AugmentConfig, ViewConfig
from byol_bnfree.data.image_ops import (
    Image,
    Scalar,
    Size,
    color_jitter,
    flip,
    gaussian_blur,
    grayscale,
    quarter_turns,
    resized_crop,
    solarize,
    vertical_flip,
)
from byol_bnfree.data.pixels import check_type
from byol_bnfree.errors import InputError
from byol_bnfree.own_code import load_function


def two_views(
    key: PRNGKeyArray,
    images: UInt8[Array, "b h w c"] | Float[Array, "b h w c"],
    augment: AugmentConfig,
    *,
    size: Size | None = None,
    positions: Int[Array, " b"] | None = None,
) -> tuple[Float[Array, "b h2 w2 c"], Float[Array, "b h2 w2 c"]]:
    """Draw view 1 from T and view 2 from T' for every image (P1 section 3.1).

    Args:
      key: the run's key, folded with the step.
      images: uint8, or floats in [0, 1].
      augment: the two distributions of views.
      size: side of the views in pixels, or height and width; None keeps the size
        of the images.
      positions: place of each image in the global batch; None means 0, 1, ...

    Returns:
      Two views of each image, float32 in [0, 1], not normalized. View i depends on
      `key`, image i and its position only.

    Raises:
      InputError: for images of another dtype.
    """
    if positions is None:
        positions = jnp.arange(len(images))
    planes = planes_of(images)
    draw = partial(_random_views, augment=augment, crop_to=size or images.shape[1:3])
    views = jax.vmap(draw)(example_keys(key, positions), planes, planes)
    return _pixels(views[0]), _pixels(views[1])


def two_views_of_crops(
    key: PRNGKeyArray,
    crops: UInt8[Array, "b v h w c"] | Float[Array, "b v h w c"],
    augment: AugmentConfig,
    *,
    positions: Int[Array, " b"] | None = None,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
    """Like `two_views`, but takes two random crops of each image, made on the host.

    Callers that need only view 1 may give one crop. View 2 is then made of it too.
    """
    if positions is None:
        positions = jnp.arange(len(crops))
    planes1, planes2 = planes_of(crops[:, 0]), planes_of(crops[:, -1])
    draw = partial(_random_views, augment=augment, crop_to=None)
    views = jax.vmap(draw)(example_keys(key, positions), planes1, planes2)
    return _pixels(views[0]), _pixels(views[1])


def normalize(
    images: Float[Array, "b h w c"], augment: AugmentConfig
) -> Float[Array, "b h w c"]:
    """Subtract the mean of each channel and divide by its standard deviation.

    `images` are floats in [0, 1]; the result is float32. Means and deviations
    that are not one for each channel are averaged.

    Raises:
      InputError: for integer images.
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(
            f"images to normalize are {images.dtype}; give floats from 0 to 1, such as "
            f"images / 255."
        )
    mean, std = jnp.array(augment.mean), jnp.array(augment.std)
    if images.shape[-1] != len(mean):
        mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
    return (images.astype(jnp.float32) - mean[None, None, None]) / std[None, None, None]


def example_keys(key: PRNGKeyArray, positions: Int[Array, " b"]) -> Array:
    """Derive one key per example from its position in the global batch."""
    return jax.vmap(partial(jax.random.fold_in, key))(positions)


def planes_of(images: Array) -> Float[Array, "b c h w"]:
    """Images [b h w c], uint8 or floats in [0, 1], as planes in [0, 1]."""
    check_type(images)
    scale = 255 if images.dtype == jnp.uint8 else 1
    return rearrange(images.astype(jnp.float32) / scale, "b h w c -> b c h w")


def _pixels(planes: Float[Array, "b c h w"]) -> Float[Array, "b h w c"]:
    return rearrange(planes, "b c h w -> b h w c")


def _random_views(
    key: PRNGKeyArray,
    image1: Image,
    image2: Image,
    *,
    augment: AugmentConfig,
    crop_to: Size | None,
) -> tuple[Array, Array]:
    key1, key2 = jax.random.split(key)
    if augment.function is not None:
        return (
            own_view(key1, image1, augment.function, 1, crop_to),
            own_view(key2, image2, augment.function, 2, crop_to),
        )
    view1, view2 = (
        of_channels(view, augment, image1.shape[0])
        for view in (augment.view1, augment.view2)
    )
    return (
        random_view(key1, image1, view1, crop_to),
        random_view(key2, image2, view2, crop_to),
    )


def of_channels(view: ViewConfig, augment: AugmentConfig, channels: int) -> ViewConfig:
    """Return a view's settings, without operations on colours where there are none."""
    if channels == 3 and augment.colours:
        return view
    return replace(view, saturation=0.0, hue=0.0, grayscale=0.0)


def own_view(
    key: PRNGKeyArray, image: Image, where: str, view: int, crop_to: Size | None
) -> Float[Array, "c h2 w2"]:
    """Make a view with a user's function and clip it to [0, 1].

    Raises:
      InputError: if there is no such function, or its result has another shape.
    """
    function = load_function(where, "augment.function")
    size = crop_to or image.shape[1:]
    height, width = (size, size) if isinstance(size, int) else size
    result = function(key, rearrange(image, "c h w -> h w c"), view)
    wanted = (height, width, image.shape[0])
    if getattr(result, "shape", None) != wanted:
        found = getattr(result, "shape", type(result).__name__)
        raise InputError(
            f"--augment.function {where} returns {found}, but a view is an array of "
            f"{wanted} in [0, 1]; resize it there."
        )
    planes = rearrange(result.astype(jnp.float32), "h w c -> c h w")
    return jnp.clip(planes, 0, 1)


def random_view(
    key: PRNGKeyArray, image: Image, view: ViewConfig, crop_to: Size | None
) -> Float[Array, "c h2 w2"]:
    """Draw one view of one image. With `crop_to` None the image is not cropped."""
    height, width = (
        (crop_to, crop_to) if isinstance(crop_to, int) else crop_to or (1, 1)
    )
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
    """Sort keys: the four operations are applied in rising order of these."""
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
    aspect = jnp.exp(_between((math.log(low), math.log(high)), numbers[1]))
    aspect = aspect if shape == 1 else aspect * shape
    crop_h = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, height)
    crop_w = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, width)
    # A number just below 1 may round up to one offset too many.
    top = jnp.minimum(jnp.floor(numbers[2] * (height - crop_h + 1)), height - crop_h)
    left = jnp.minimum(jnp.floor(numbers[3] * (width - crop_w + 1)), width - crop_w)
    return jnp.stack([top, left, crop_h, crop_w]).astype(jnp.int32)


def apply_view(
    image: Image, draw: ViewDraw, view: ViewConfig, crop_to: Size | None
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
