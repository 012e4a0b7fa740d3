"""Decoded pictures of any number of channels: cut, resized, as arrays."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from byol_bnfree.data.reading import MAX_PIXELS

EVAL_SHARE = 224 / 256  # of the shorter side; DeepMind's evaluation crop
BICUBIC = Image.Resampling.BICUBIC


class Planes(NamedTuple):
    """A picture whose channels are not colours: one of PIL's mode L for each."""

    bands: tuple[Image.Image, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as PIL's."""
        return self.bands[0].size

    def crop(self, box: tuple[int, int, int, int]) -> "Planes":
        """As PIL's."""
        return Planes(tuple(band.crop(box) for band in self.bands))

    def resize(
        self,
        size: tuple[int, int],
        how: Image.Resampling,
        box: tuple[float, float, float, float] | None = None,
    ) -> "Planes":
        """As PIL's, each channel by itself."""
        return Planes(tuple(band.resize(size, how, box) for band in self.bands))


Picture = Image.Image | Planes


def cut(image: Picture, box: tuple[int, int, int, int]) -> Picture:
    """The pixels in the box (left, top, right, bottom)."""
    left, top, right, bottom = box
    if (right - left) * (bottom - top) <= MAX_PIXELS:
        return image.crop(box)
    if isinstance(image, Planes):
        return Planes(tuple(cut(band, box) for band in image.bands))
    # Pillow's crop has a limit of its own, that of the whole process.
    return Image.fromarray(np.asarray(image)[top:bottom, left:right])


def centre_crop(image: Picture, size: tuple[int, int], share: float) -> Picture:
    """The largest central part of the shape of `size`, or `share` of its sides.

    It is resized to `size`, height and width (bicubic). With share 224/256 and a square
    this is DeepMind's evaluation crop (P1 C.1; `_decode_and_center_crop` of its
    dataset.py), whatever the size of the picture: where the border is odd the larger
    half is before the crop. PIL's resize averages (antialiases) where it shrinks and
    rounds to 8 bits; DeepMind's TensorFlow resize does neither.
    """
    (width, height), (out_h, out_w) = image.size, size
    if width * out_h <= height * out_w:
        part_w, part_h = width, width * out_h / out_w
    else:
        part_w, part_h = height * out_w / out_h, height
    part_w, part_h = max(1, int(share * part_w)), max(1, int(share * part_h))
    if (width, height) == (out_w, out_h) == (part_w, part_h):
        return image
    left, top = (width - part_w + 1) // 2, (height - part_h + 1) // 2
    part = cut(image, (left, top, left + part_w, top + part_h))
    return part.resize((out_w, out_h), BICUBIC)


def to_array(image: Picture) -> UInt8[np.ndarray, "h w c"]:
    """The pixels of a picture that `decode` returned."""
    if isinstance(image, Planes):
        return np.stack([np.asarray(band) for band in image.bands], axis=-1)
    return np.atleast_3d(np.asarray(image))


def from_array(pixels: UInt8[np.ndarray, "h w c"]) -> Picture:
    """The picture with these pixels; gray and colour as PIL has them."""
    channels = pixels.shape[-1]
    if channels == 3:
        return Image.fromarray(np.ascontiguousarray(pixels))
    bands = [np.ascontiguousarray(pixels[..., k]) for k in range(channels)]
    images = tuple(map(Image.fromarray, bands))
    return images[0] if channels == 1 else Planes(images)


def for_display(image: np.ndarray) -> np.ndarray:
    """[h w c] as matplotlib shows it: gray, or the first three channels as colours."""
    return image[..., :3] if image.shape[-1] >= 3 else image[..., 0]
