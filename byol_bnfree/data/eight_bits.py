"""Stored values of a picture become 8-bit pixels."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION

from byol_bnfree.config import DataConfig
from byol_bnfree.data.reading import MAX_PIXELS

WHITE_IS_ZERO = 0  # a photometric interpretation of TIFF
DEEPEST = 65535  # white in 16 bits
FLOATS = (
    "the value of white in floating-point pixels is unknown; train with --data.white"
)


class Conversion(NamedTuple):
    """How stored values become 8-bit pixels; see the same fields of `DataConfig`."""

    white: float | None = None
    alpha: Literal["white", "black", "ignore"] = "white"
    max_pixels: int = MAX_PIXELS
    channels: int | None = None
    """Of every picture; None: as they are."""
    upright: bool = True
    """Turn pictures as EXIF says."""


AS_IT_IS = Conversion()


def conversion(data: DataConfig) -> Conversion:
    """Return the conversion that the settings ask for."""
    return Conversion(data.white, data.alpha, data.max_pixels, data.channels)


def is_deep_colour(image: Image.Image) -> bool:
    """Return True if colours have 16 bits. Pillow keeps only their upper 8."""
    return len(image.getbands()) > 1 and any(";16" in str(t[-1]) for t in image.tile)


def to_8bit(image: Image.Image, how: Conversion, deep: bool) -> Image.Image:
    """Return 8-bit gray or colours. `deep` is `is_deep_colour` of the file."""
    if deep and how.white not in (None, DEEPEST):
        raise ValueError(
            "Pillow keeps the upper 8 bits of 16-bit colours, so --data.white cannot "
            "be used; convert the picture to 8 bits, or to TIFF"
        )
    if image.mode == "F" or image.mode.startswith("I"):
        values = scaled(np.asarray(image), how.white)
        # Pillow turns white-is-zero around in pictures of 8 bits only.
        tags = getattr(image, "tag_v2", {})
        inverted = tags.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO
        return Image.fromarray(255 - values if inverted else values)
    if not image.has_transparency_data:
        return image
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    if how.alpha == "ignore":
        return image.convert("RGB")
    # alpha_composite would need a third copy of every pixel, perhaps a gigabyte.
    ground = Image.new("RGB", image.size, how.alpha)
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def scaled(pixels: np.ndarray, white: float | None) -> UInt8[np.ndarray, "..."]:
    """Map values from 0 to `white` to 8 bits, rounded. Larger values become white.

    Without `white`, integers have 65,535.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if not np.isfinite(pixels).all():
        raise ValueError("it has pixels that are not finite numbers")
    if pixels.min() < 0:
        raise ValueError("it has negative pixels; shift its values to 0 or more")
    if pixels.dtype == np.int8:
        return pixels.astype(np.uint8)
    if white is None:
        if pixels.dtype.kind == "f":
            raise ValueError(FLOATS)
        if pixels.max() > DEEPEST:
            raise ValueError("it has pixels above 65,535; train with --data.white")
        white = DEEPEST
    values = np.rint(pixels * np.float32(255 / white))
    return np.clip(values, 0, 255).astype(np.uint8)
