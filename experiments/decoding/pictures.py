"""JPEGs like photographs, and how fast this package reads them."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from byol_bnfree.config import AugmentConfig, ViewsConfig
from byol_bnfree.data.crops import large_and_small_crops, random_crops
from byol_bnfree.data.decode import decode
from byol_bnfree.data.view_settings import small_side, view_config

SIZE = 500, 375  # of the median picture of ImageNet
SIDE = 224  # of a large crop


def write_pictures(folder: Path, count: int) -> float:
    """JPEGs of noise whose amplitude falls as 1 / frequency; their mean size, bytes."""
    draws = np.random.default_rng(0)
    width, height = SIZE
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(width), np.fft.fftfreq(height)))
    falling = 1 / np.maximum(frequency, 1 / width)[..., None]
    for index in range(count):
        noise = np.fft.fft2(draws.standard_normal((height, width, 3)), axes=(0, 1))
        pixels = np.fft.ifft2(noise * falling, axes=(0, 1)).real
        pixels = 128 + 50 * (pixels - pixels.mean()) / pixels.std()
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{index:04}.jpg", quality=92)
    return statistics.fmean(path.stat().st_size for path in folder.glob("*.jpg"))


def our_rate(folder: Path, views: ViewsConfig) -> float:
    """Return images per second, read as by a source that streams."""
    cut = cut_of(views)
    paths = sorted(folder.glob("*.jpg"))
    began = time.perf_counter()
    for index, path in enumerate(paths):
        image = decode(path.read_bytes(), path.name, channels=3)
        cut(image, (SIDE, SIDE), key=(0, index))
    return len(paths) / (time.perf_counter() - began)


def cut_of(views: ViewsConfig) -> Callable[..., Any]:
    """Return the function that cuts the crops of these views from a picture."""
    large, total = views.count, views.count + views.small
    settings = [view_config(i, AugmentConfig(), views) for i in range(total)]
    if not views.small:
        return partial(random_crops, views=settings)
    return partial(
        large_and_small_crops,
        views=settings[:large],
        small=settings[large:],
        small_size=(small_side(SIDE, views),) * 2,
    )
