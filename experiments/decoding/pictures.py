"""JPEGs like photographs, and how fast this package reads them."""

import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from byol_bnfree.config import AugmentConfig
from byol_bnfree.data.crops import random_crops
from byol_bnfree.data.decode import decode

SIZE = 500, 375  # of the median picture of ImageNet


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


def our_rate(folder: Path) -> float:
    """Return images per second, read as by a source that streams."""
    views = AugmentConfig().view1, AugmentConfig().view2
    paths = sorted(folder.glob("*.jpg"))
    began = time.perf_counter()
    for index, path in enumerate(paths):
        image = decode(path.read_bytes(), path.name, channels=3)
        random_crops(image, (224, 224), views, (0, index))
    return len(paths) / (time.perf_counter() - began)
