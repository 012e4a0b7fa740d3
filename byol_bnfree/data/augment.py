"""BYOL's image augmentation, on the device and with a random key for each example.

`two_views` makes each view with `one_view.random_view`, one example at a time.

P1 is the BYOL paper (arXiv 2006.07733); the augmentation is in its appendix B.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from byol_bnfree.config import AugmentConfig, ImageSize, ViewConfig, height_and_width
from byol_bnfree.data.image_ops import Image
from byol_bnfree.data.one_view import random_view
from byol_bnfree.data.pixels import as_array, check_type, checked_images
from byol_bnfree.errors import InputError
from byol_bnfree.machine.jax_settings import THREEFRY
from byol_bnfree.own_code import load_function, repaired_by_the_user
from byol_bnfree.settings.checks import check_augment
from byol_bnfree.settings.types import is_count


def two_views(
    key: PRNGKeyArray,
    images: UInt8[Array, "b h w c"] | Float[Array, "b h w c"],
    augment: AugmentConfig,
    *,
    size: ImageSize | None = None,
    positions: Int[Array, " b"] | None = None,
) -> tuple[Float[Array, "b h2 w2 c"], Float[Array, "b h2 w2 c"]]:
    """Draw view 1 from T and view 2 from T' for every image (P1 section 3.1).

    Args:
      key: the run's key, folded with the step. Its kind is threefry, JAX's usual one.
        Keys of `jax.random.PRNGKey` are taken too.
      images: uint8, or floats in [0, 1].
      augment: the two distributions of views.
      size: side of the views in pixels, or height and width; None keeps the size
        of the images.
      positions: place of each image in the global batch; None means 0, 1, ...

    Returns:
      Two views of each image, float32 in [0, 1], not normalized. View i depends on
      `key`, image i and its position only.

    Raises:
      InputError: for settings that `TrainConfig` refuses, for images of another dtype,
        shape or range, for positions that are not one whole number for each image,
        another size, or a key of another kind. Ranges are not known inside compiled
        functions.
    """
    check_augment(augment)
    images = checked_images(images)
    _check_size(size)
    positions = _placed(images, positions)
    side = images.shape[1:3] if size is None else size
    keys = jax.vmap(jax.random.split)(example_keys(key, positions))
    draw = partial(view_of_every_image, images=images, augment=augment, size=side)
    first = draw(keys[:, 0], view=augment.view1, number=1)
    return first, draw(keys[:, 1], view=augment.view2, number=2)


def _check_size(size: Any) -> None:
    """Raise `InputError` unless it is an `ImageSize` of positive numbers, or None."""
    if size is None:
        return
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or not all(map(is_count, sides)):
        raise InputError(
            f"size is {size!r}; give a number of pixels, (height, width) or None."
        )


def _placed(images: Array, positions: Any) -> Int[Array, " b"]:
    """Return the positions, sharded as the images. None means 0, 1, ...

    On meshes with Explicit axes, which are JAX's default, `vmap` refuses arguments that
    are not sharded alike.
    """
    count = len(images)
    positions = jnp.arange(count) if positions is None else jnp.asarray(positions)
    if positions.shape != (count,):
        raise InputError(
            f"positions have shape {positions.shape}, but there are {count} images; "
            f"give one position for each."
        )
    if not jnp.issubdtype(positions.dtype, jnp.integer):
        raise InputError(
            f"positions are {positions.dtype}; give whole numbers, such as "
            f"jnp.arange({count})."
        )
    sharding = jax.typeof(images).sharding
    if sharding.spec[0] is None:  # on one device, or on a mesh of Auto axes
        return positions
    if not isinstance(images, jax.core.Tracer):
        sharding = images.sharding  # its mesh knows the devices
    rows = jax.NamedSharding(sharding.mesh, jax.P(sharding.spec[0]))
    return jax.sharding.reshard(positions, rows)


def normalize(
    images: Float[Array, "b h w c"], augment: AugmentConfig
) -> Float[Array, "b h w c"]:
    """Subtract the mean of each channel and divide by its standard deviation.

    `images` are floats in [0, 1]; the result is float32. Means and deviations
    that are not one for each channel are averaged.

    Raises:
      InputError: for integer images, and otherwise as `two_views`.
    """
    check_augment(augment)
    images = as_array(images)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(
            f"images to normalize are {images.dtype}; give floats from 0 to 1, such as "
            f"images / 255."
        )
    return normalized(checked_images(images), augment)


def normalized(
    images: Float[Array, "b h w c"], augment: AugmentConfig
) -> Float[Array, "b h w c"]:
    """Act as `normalize` on images that are known to be floats in [0, 1]."""
    mean = jnp.array(augment.mean, jnp.float32)
    std = jnp.array(augment.std, jnp.float32)
    if images.shape[-1] != len(mean):
        mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
    return (images.astype(jnp.float32) - mean[None, None, None]) / std[None, None, None]


def example_keys(key: PRNGKeyArray, positions: Int[Array, " b"]) -> Array:
    """Derive one key per example from its position in the global batch.

    Raises:
      InputError: for several keys, and for a key of another kind than threefry. With
        rbg an image's view would depend on the first position of the batch.
    """
    try:
        impl = jax.random.key_impl(key)
    except TypeError as error:
        raise InputError(
            f"the key of the views is of type {type(key).__name__}; give "
            f"jax.random.key(seed)."
        ) from error
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)  # of jax.random.PRNGKey
    if key.shape:
        raise InputError(
            f"the key of the views has shape {key.shape}; give one key, from which "
            f"those of the images are made."
        )
    if impl != THREEFRY:
        raise InputError(
            f"the key of the views is one of {impl}, with which a view depends on "
            f"other images' positions; give jax.random.key(seed, impl={THREEFRY!r}), "
            f"or unset JAX_DEFAULT_PRNG_IMPL."
        )
    return jax.vmap(partial(jax.random.fold_in, key))(positions)


def view_of_every_image(
    keys: Array,
    images: UInt8[Array, "b h w c"] | Float[Array, "b h w c"],
    augment: AugmentConfig,
    view: ViewConfig,
    *,
    number: int,
    size: ImageSize | None,
) -> Float[Array, "b h2 w2 c"]:
    """Draw one view of every image, float32 in [0, 1], not normalized.

    Args:
      keys: a key for each image [b].
      images: uint8, or floats in [0, 1].
      augment: settings of both views, with a user's function if there is one.
      view: the distribution that this view is drawn from.
      number: place of the view among those of an image, from 1. A user's function
        receives it.
      size: side of the views in pixels, or height and width; None for images that are
        crops already.
    """
    check_type(images)
    scale = 255 if images.dtype == jnp.uint8 else 1
    planes = rearrange(images.astype(jnp.float32) / scale, "b h w c -> b c h w")
    if augment.function is None:
        view = of_channels(view, augment, images.shape[-1])
        draw = partial(random_view, view=view, crop_to=size)
    else:
        draw = partial(_own_view, where=augment.function, number=number, crop_to=size)
    drawn = jax.vmap(draw)(keys, planes)
    # float32 also where JAX computes in float64
    return rearrange(drawn.astype(jnp.float32), "b c h w -> b h w c")


def of_channels(view: ViewConfig, augment: AugmentConfig, channels: int) -> ViewConfig:
    """Return a view's settings, without operations on colours where there are none."""
    if channels == 3 and augment.colours:
        return view
    return replace(view, saturation=0.0, hue=0.0, grayscale=0.0)


def _own_view(
    key: PRNGKeyArray, image: Image, where: str, number: int, crop_to: ImageSize | None
) -> Float[Array, "c h2 w2"]:
    """Make a view with a user's function and clip it to [0, 1].

    Raises:
      InputError: if there is no such function, it fails, or its result has another
        shape or holds integers.
    """
    function = load_function(where, "augment.function")
    height, width = height_and_width(crop_to or image.shape[1:])
    what = f"augment.function {where}"
    with repaired_by_the_user(what, where.rpartition(":")[0], "key, image, view"):
        result = function(key, rearrange(image, "c h w -> h w c"), number)
    wanted = (height, width, image.shape[0])
    if getattr(result, "shape", None) != wanted:
        found = getattr(result, "shape", type(result).__name__)
        raise InputError(
            f"--augment.function {where} returns {found}, but a view is an array of "
            f"{wanted} in [0, 1]; resize it there."
        )
    if not jnp.issubdtype(result.dtype, jnp.floating):
        raise InputError(
            f"--augment.function {where} returns {result.dtype}, but a view has floats "
            f"in [0, 1]; divide 8-bit values by 255 there."
        )
    planes = rearrange(result.astype(jnp.float32), "h w c -> c h w")
    return jnp.clip(planes, 0, 1)
