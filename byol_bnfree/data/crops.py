"""Random resized crops on the host, for pictures that do not fit into memory.

The device's crop (`image_ops.resized_crop`) needs pictures of one size. Here the crop
is cut from the original picture, so it is resized only once.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from byol_bnfree.config import ViewConfig
from byol_bnfree.data.geometry import BICUBIC, Picture, cut, to_array


def crop_box(
    rng: np.random.Generator,
    width: int,
    height: int,
    view: ViewConfig,
    shape: float = 1.0,
) -> tuple[int, int, int, int]:
    """Draw left, top, right and bottom of a random crop, in pixels.

    It is one draw, as in DeepMind's code: area A uniform, aspect ratio r log-uniform
    around `shape` (width over height of the input), sides round(sqrt(A r)) and
    round(sqrt(A / r)) clipped to the picture, offset uniform.
    (torchvision draws up to ten times and falls back to the centre.)
    """
    area = rng.uniform(*view.crop_area) * width * height
    low, high = view.crop_aspect
    aspect = shape * math.exp(rng.uniform(math.log(low), math.log(high)))
    w = min(max(round(math.sqrt(area * aspect)), 1), width)
    h = min(max(round(math.sqrt(area / aspect)), 1), height)
    left = int(rng.integers(width - w + 1))
    top = int(rng.integers(height - h + 1))
    return left, top, left + w, top + h


def random_crops(
    image: Picture,
    size: tuple[int, int],
    views: Sequence[ViewConfig],
    key: tuple[int, ...],
) -> UInt8[np.ndarray, "v h w c"]:
    """Cut one random resized crop of `size`, height and width, for each view.

    The result depends on the picture and `key` only. The resize is PIL's bicubic: it
    averages (antialiases) when it shrinks, and rounds to 8 bits. DeepMind's TensorFlow
    resize does neither and keeps floats for the operations that follow.
    """
    return _crops(np.random.default_rng(key), image, size, views)


def large_and_small_crops(
    image: Picture,
    size: tuple[int, int],
    views: Sequence[ViewConfig],
    small: Sequence[ViewConfig],
    small_size: tuple[int, int],
    key: tuple[int, ...],
) -> tuple[UInt8[np.ndarray, "v h w c"], UInt8[np.ndarray, "m s t c"]]:
    """Cut large crops, which are those of `random_crops`, and then small ones."""
    rng = np.random.default_rng(key)
    large = _crops(rng, image, size, views)
    return large, _crops(rng, image, small_size, small)


def _crops(
    rng: np.random.Generator,
    image: Picture,
    size: tuple[int, int],
    views: Sequence[ViewConfig],
) -> UInt8[np.ndarray, "v h w c"]:
    height, width = size
    boxes = [crop_box(rng, *image.size, view, width / height) for view in views]
    crops = [cut(image, box) for box in boxes]  # PIL's resize(box=) reads past the box
    return np.stack([to_array(crop.resize((width, height), BICUBIC)) for crop in crops])
