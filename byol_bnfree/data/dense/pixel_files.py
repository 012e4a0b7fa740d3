"""Reads pictures, and masks and depths from picture files, one value per pixel."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from byol_bnfree.data.decode import decode
from byol_bnfree.data.dense.example import IGNORE
from byol_bnfree.data.geometry import to_array
from byol_bnfree.data.names import printable
from byol_bnfree.data.reading import BadImage, Fault
from byol_bnfree.errors import InputError

MILLIMETRES = 1000


def read_mask(file: Path) -> UInt8[np.ndarray, "h w"]:
    """Read the classes of a mask; a palette's colours are only for display.

    Raises:
      InputError: if it is no picture of one byte per pixel.
    """
    pixels = _stored(file)
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.bool_):
        raise InputError(
            f"{printable(file)} is no mask: it has the shape {pixels.shape} of "
            f"{pixels.dtype}; save one byte per pixel, gray or with a palette."
        )
    return pixels.astype(np.uint8)


def read_depth(file: Path) -> Float[np.ndarray, "h w"]:
    """Read a depth [h w] in metres from a picture in millimetres; 0 is unknown.

    Raises:
      InputError: if it has colours.
    """
    pixels = _stored(file)
    if pixels.ndim != 2:
        raise InputError(
            f"{printable(file)} is no depth: it has the shape {pixels.shape}; save a "
            f"gray PNG of 16 bits in millimetres."
        )
    return (pixels / MILLIMETRES).astype(np.float32)


def _stored(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.asarray(image)
    except Exception as error:  # Pillow's readers raise almost anything
        raise InputError(
            f"{printable(file)} cannot be read ({error}); repair or remove it with its "
            f"picture."
        ) from error


def read_picture(
    file: str | bytes, name: str, channels: int
) -> UInt8[np.ndarray, "h w c"]:
    """Decode a picture; `file` is a path or the encoded bytes.

    Raises:
      InputError: if it cannot be used. A dense task cannot skip a picture, because its
        target would be left.
    """
    try:
        return to_array(decode(file, name, channels))
    except BadImage as error:
        raise InputError(
            f"{error.name} cannot be used as a picture: {error.reason}; repair it, or "
            f"remove it with its targets."
        ) from error
    except Fault as error:
        raise error.stop() from error


def classes_of(file: Path) -> UInt8[np.ndarray, " n"]:
    """Return the classes that a mask shows, without 255."""
    values = np.unique(read_mask(file))
    return values[values != IGNORE]
