"""Images corrupted in four ways at five levels, to evaluate off distribution.

BYOL's papers report no such results. The corruptions and their strengths come from the
code of Hendrycks and Dietterich 2019 (https://arxiv.org/abs/1903.12261): CIFAR-10-C for
images up to 64 pixels, ImageNet-C above. The boundary is our choice. Their files are
not needed. Results are close to the benchmark but not equal: we draw our own noise, and
we round values where they truncate them.
"""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.sources import Source
from byol_bnfree.evaluation.images.subset import Subset

Picture = UInt8[np.ndarray, "h w c"]
LEVELS = 5  # of each corruption, from weak to strong
SMALL = 64  # pixels; up to this size the first list of strengths holds
STRENGTHS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "blur": ((0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "jpeg": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}


class Corrupted(Subset):
    """All images of a source, each corrupted the same way at every access."""

    def __init__(self, source: Source, kind: str, level: int, seed: int):
        """Corrupt with `kind`, a key of `CORRUPTIONS`, and `level`, 1 (weak) to 5."""
        super().__init__(source, np.arange(len(source)))
        self.split = f"{source.split}-{kind}{level}"
        small = source.image_shape[0] <= SMALL
        self._strength = STRENGTHS[kind][0 if small else 1][level - 1]
        self._spoil, self._seed = CORRUPTIONS[kind], seed
        self._how = kind, level, seed

    @property
    def fingerprint(self) -> str:
        """A checksum of the clean images and of the corruption."""
        return checksum(super().fingerprint, self._how)

    def images(self, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w c"]:
        """Return corrupted images. They depend on seed, index, kind and level only."""

        def spoil(picture: Picture, index: int) -> Picture:
            rng = np.random.default_rng([self._seed, index])
            return self._spoil(picture, self._strength, rng)

        with ThreadPoolExecutor() as threads:  # PIL and SciPy release the GIL
            return np.stack(
                list(threads.map(spoil, super().images(indices), indices.tolist()))
            )


def noise(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Add Gaussian noise with deviation `strength` on the scale [0, 1]."""
    drawn = rng.standard_normal(picture.shape, np.float32) * (255 * strength)
    return _to_uint8(picture + drawn)


def blur(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Blur with a Gaussian of `strength` pixels. Edge pixels are repeated."""
    del rng
    sigma = (strength, strength, 0)
    return _to_uint8(gaussian_filter(picture.astype(np.float32), sigma, mode="nearest"))


def contrast(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Multiply the distance from each channel's mean by `strength`."""
    del rng
    mean = picture.mean(axis=(0, 1), keepdims=True)
    return _to_uint8(mean + strength * (picture - mean))


def jpeg(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Compress as JPEG with quality `strength`; other channels one by one."""
    if picture.shape[-1] not in (1, 3):
        bands = np.split(picture, picture.shape[-1], axis=-1)
        return np.concatenate([jpeg(band, strength, rng) for band in bands], axis=-1)
    gray, file = picture.shape[-1] == 1, io.BytesIO()
    image = Image.fromarray(picture[..., 0] if gray else picture)
    image.save(file, "JPEG", quality=int(strength))
    return np.asarray(Image.open(file)).reshape(picture.shape)


CORRUPTIONS: dict[str, Callable[[Picture, float, np.random.Generator], Picture]] = {
    "noise": noise,
    "blur": blur,
    "contrast": contrast,
    "jpeg": jpeg,
}


def _to_uint8(values: np.ndarray) -> Picture:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
