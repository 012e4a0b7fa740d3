"""The distribution and size of each view; needs no JAX."""

import dataclasses

from byol_bnfree.config import AugmentConfig, ViewConfig, ViewsConfig


def view_config(index: int, augment: AugmentConfig, views: ViewsConfig) -> ViewConfig:
    """The distribution of view `index`: T for even ones, T' for odd ones."""
    view = augment.view2 if index % 2 else augment.view1
    if index < views.count:
        return view
    return dataclasses.replace(view, crop_area=views.small_area)


def small_side(side: int, views: ViewsConfig) -> int:
    """Height or width of a small view, pixels."""
    return views.small_size or max(1, side // 2)
