"""Random resized crops on the host, for pictures that do not fit into memory.

The device's crop (`augment.resized_crop`) needs pictures of one size. Here the crop is
cut from the original picture, so it is resized only once.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from byol_bnfree.config import ViewConfig
from byol_bnfree.data.decode import cut, to_array


def crop_box(
    rng: np.random.Generator, width: int, height: int, view: ViewConfig
) -> tuple[int, int, int, int]:
    """Draw left, top, right and bottom of a random crop, in pixels.

    It is one draw, as in DeepMind's code: area A uniform, aspect ratio r log-uniform,
    sides round(sqrt(A r)) and round(sqrt(A / r)) clipped to the picture, offset
    uniform. (torchvision draws up to ten times and falls back to the centre.)
    """
    area = rng.uniform(*view.crop_area) * width * height
    low, high = view.crop_aspect
    aspect = math.exp(rng.uniform(math.log(low), math.log(high)))
    w = min(max(round(math.sqrt(area * aspect)), 1), width)
    h = min(max(round(math.sqrt(area / aspect)), 1), height)
    left = int(rng.integers(width - w + 1))
    top = int(rng.integers(height - h + 1))
    return left, top, left + w, top + h


def random_crops(
    image: Image.Image, size: int, views: Sequence[ViewConfig], key: tuple[int, ...]
) -> UInt8[np.ndarray, "v h w c"]:
    """Cut one random resized crop with side `size` for each view.

    The result depends on the picture and `key` only. The resize is PIL's bicubic: it
    averages (antialiases) when it shrinks, and rounds to 8 bits. DeepMind's TensorFlow
    resize does neither and keeps floats for the operations that follow.
    """
    rng = np.random.default_rng(key)
    boxes = [crop_box(rng, *image.size, view) for view in views]
    crops = [cut(image, box) for box in boxes]  # PIL's resize(box=) reads past the box
    bicubic = Image.Resampling.BICUBIC
    return np.stack([to_array(crop.resize((size, size), bicubic)) for crop in crops])
