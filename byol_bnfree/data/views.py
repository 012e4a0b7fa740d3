"""The normalized views of a batch, drawn on the device: two, more, and small ones.

Large views alternate between T and T' (P1 section 3.1). Small views are small crops,
drawn the same way. The key of a view derives from (seed, step, position, view), so the
first two large views are those of `augment.two_views`, whatever the number of views.
"""

from functools import partial
from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from byol_bnfree.config import AugmentConfig, ViewsConfig
from byol_bnfree.data.augment import (
    example_keys,
    normalized,
    view_of_every_image,
)
from byol_bnfree.data.view_settings import small_side, view_config

Batch = dict[str, Array]
Views = tuple[Float[Array, "b h w c"], ...]


class AllViews(NamedTuple):
    """Normalized views of a batch, float32; small ones have fewer pixels."""

    large: Views
    small: Views


def all_views(
    key: Array, batch: Batch, augment: AugmentConfig, views: ViewsConfig
) -> AllViews:
    """Draw every view of every image of a batch.

    Args:
      key: the run's key, folded with the step.
      batch: "image" (uint8 [b h w c]), of which every view is made; or "crops" (uint8
        [b n h w c]), with "small_crops" (uint8 [b m s s c]) if there are small views.
        "position" (int32 [b]) is the place in the global batch.
      augment: T, T' and the normalization.
      views: number and size of the views.
    """
    total = views.count + views.small
    keys = _keys_of_views(key, batch, total)
    drawn = tuple(
        _view(index, keys[:, index], batch, augment, views) for index in range(total)
    )
    return AllViews(drawn[: views.count], drawn[views.count :])


def first_view(
    key: Array, batch: Batch, augment: AugmentConfig
) -> Float[Array, "b h w c"]:
    """Draw the first large view alone. "crops" may then hold one crop of each image."""
    keys = _keys_of_views(key, batch, 2)
    return _view(0, keys[:, 0], batch, augment, ViewsConfig())


def _keys_of_views(key: Array, batch: Batch, total: int) -> Array:
    """Return a key for each image and view [b total]."""
    keys = example_keys(key, batch["position"])
    return jax.vmap(partial(jax.random.split, num=total))(keys)


def _view(
    index: int, keys: Array, batch: Batch, augment: AugmentConfig, views: ViewsConfig
) -> Float[Array, "b h w c"]:
    """Draw view `index` of all images, and normalize it."""
    small = index - views.count
    if "crops" in batch:
        # The host has cropped and resized already.
        images = batch["small_crops"][:, small] if small >= 0 else None
        images = batch["crops"][:, index] if images is None else images
        size = None
    else:
        images = batch["image"]
        size = images.shape[1:3]
        if small >= 0:
            size = tuple(small_side(side, views) for side in size)
    view = view_config(index, augment, views)
    number = 1 + index  # for a user's function
    drawn = view_of_every_image(keys, images, augment, view, number=number, size=size)
    return normalized(drawn, augment)
