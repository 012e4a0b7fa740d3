"""More than two views of an image, and small ones; drawn on the device.

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
    of_channels,
    own_view,
    pixels_of,
    planes_of,
)
from byol_bnfree.data.one_view import random_view
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
    keys = example_keys(key, batch["position"])
    total = views.count + views.small
    keys = jax.vmap(partial(jax.random.split, num=total))(keys)
    drawn = [
        _view(index, keys[:, index], batch, augment, views) for index in range(total)
    ]
    drawn = [normalized(view, augment) for view in drawn]
    return AllViews(tuple(drawn[: views.count]), tuple(drawn[views.count :]))


def _view(
    index: int, keys: Array, batch: Batch, augment: AugmentConfig, views: ViewsConfig
) -> Float[Array, "b h w c"]:
    """View `index` of all images, in [0, 1], not normalized."""
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
    view = of_channels(view, augment, images.shape[-1])
    if augment.function is None:
        draw = partial(random_view, view=view, crop_to=size)
    else:
        where, number = augment.function, 1 + index
        draw = partial(own_view, where=where, view=number, crop_to=size)
    return pixels_of(jax.vmap(draw)(keys, planes_of(images)))
