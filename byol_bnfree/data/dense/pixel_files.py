"""Reads pictures, and masks and depths from picture files, one value per pixel."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image

from byol_bnfree.data.decode import decode, read_header
from byol_bnfree.data.dense.example import IGNORE
from byol_bnfree.data.eight_bits import AS_IT_IS, Conversion
from byol_bnfree.data.geometry import to_array
from byol_bnfree.data.names import pixels_of_sides, printable
from byol_bnfree.data.reading import BadImage, Fault
from byol_bnfree.errors import InputError

MILLIMETRES = 1000  # in a metre; files have millimetres, examples metres
LEAST_FARTHEST = 100  # millimetres; a picture of floats below is one in metres
LOSSY = ("JPEG", "MPO", "JPEG2000")  # formats that change values
LOSSY_IN_TIFF = ("jpeg", "tiff_jpeg", "webp")  # compressions of a TIFF that do so too
BYTE = ("1", "L", "P")  # modes of one byte or less per pixel


def read_mask(file: Path) -> UInt8[np.ndarray, "h w"]:
    """Read the classes of a mask; a palette's colours are only for display.

    Raises:
      InputError: if it is no picture of one byte per pixel.
    """
    pixels = _stored(file)
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.bool_):
        raise InputError(
            f"{printable(file)} is not a mask: it has the shape {pixels.shape} of "
            f"{pixels.dtype}; save one byte per pixel, gray or with a palette."
        )
    return pixels.astype(np.uint8)


def read_depth(file: Path) -> Float[np.ndarray, "h w"]:
    """Read a depth [h w] in metres from a picture in millimetres; 0 is unknown.

    Values that are negative or no numbers become 0.

    Raises:
      InputError: if it has colours or too few bits, or floats that must be metres.
    """
    check_depth(file)
    pixels = _stored(file)
    known = np.isfinite(pixels) & (pixels > 0)
    most = pixels[known].max(initial=0)
    if pixels.dtype.kind == "f" and 0 < most < LEAST_FARTHEST:
        raise InputError(
            f"{printable(file)} has depths of at most {most:g}, which would be "
            f"millimetres; if they are metres, multiply them by 1,000."
        )
    return (np.where(known, pixels, 0) / MILLIMETRES).astype(np.float32)


def check_depth(file: Path) -> tuple[int, int]:
    """Return the height and width of a depth from its header alone.

    Raises:
      InputError: if it has colours or too few bits.
    """
    with _opened(file) as image:
        mode, (width, height) = image.mode, image.size
    if mode in BYTE:
        raise InputError(
            f"{printable(file)} is not a depth map: it has 8 bits, which end at "
            f"255 millimetres; save a gray PNG of 16 bits in millimetres."
        )
    if mode != "F" and not mode.startswith("I"):
        raise InputError(
            f"{printable(file)} is not a depth map: its pixels are {mode}; save a "
            f"gray PNG of 16 bits in millimetres."
        )
    return height, width


def picture_size(file: Path, how: Conversion = AS_IT_IS) -> tuple[int, int]:
    """Return the height and width of a picture from its header, upright.

    Raises:
      InputError: if it cannot be used.
    """
    with _usable(printable(file)):
        header = read_header(str(file), printable(file), how)
    return header.height, header.width


def check_same_size(
    file: Path, target: str, own: tuple[int, ...], picture: tuple[int, ...]
) -> None:
    """Raise `InputError` if a picture and its mask or depth differ in size."""
    if own != picture:
        ours, theirs = (pixels_of_sides(*size) for size in (own, picture))
        raise InputError(
            f"the {target} of {printable(file)} has {ours}, and the picture {theirs}; "
            f"give them the same size."
        )


def _stored(file: Path) -> np.ndarray:
    with _opened(file) as image:
        inside = image.info.get("compression") if image.format == "TIFF" else None
        if image.format in LOSSY or inside in LOSSY_IN_TIFF:
            what = f"{image.format} with {inside} inside" if inside else image.format
            raise InputError(
                f"{printable(file)} is a {what}, which changes values; save masks and "
                f"depths as PNG from their source."
            )
        unit = _gray_unit(image)
        pixels = np.asarray(image)
        turned = image.getexif().get(ExifTags.Base.Orientation, 1)
        if turned != 1:
            raise InputError(
                f"{printable(file)} is stored turned (EXIF orientation {turned}), but "
                f"masks and depths are used as they are stored; save it upright, as "
                f"its picture is used."
            )
        return pixels if unit == 1 else pixels // unit


def _gray_unit(image: Image.Image) -> int:
    """Return what Pillow multiplies gray values of 2 or 4 bits by: 85 or 17; or 1."""
    tile = image.tile[0] if image.tile else (None, None, None, "")
    raw = tile[3] if isinstance(tile[3], str) else next(iter(tile[3] or ()), "")
    found = re.fullmatch(r"L;([24])", str(raw))
    return 255 // (2 ** int(found[1]) - 1) if found else 1


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(file) as image:
            yield image
    except InputError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything
        raise InputError(
            f"{printable(file)} cannot be read ({error}); repair or remove it with its "
            f"picture."
        ) from error


def read_picture(
    file: str | bytes, name: str, channels: int, how: Conversion = AS_IT_IS
) -> UInt8[np.ndarray, "h w c"]:
    """Decode a picture; `file` is a path or the encoded bytes. `how` is the run's.

    Raises:
      InputError: if it cannot be used. A dense task cannot skip a picture, because its
        target would be left.
    """
    with _usable(name):
        return to_array(decode(file, name, channels, how))


@contextlib.contextmanager
def _usable(name: str) -> Iterator[None]:
    """Turn the faults of the picture `name` into sentences of a dense task."""
    try:
        yield
    except BadImage as error:
        raise InputError(
            f"{name} cannot be used as a picture: {error.reason}; repair it, or "
            f"remove it with its targets."
        ) from error
    except Fault as error:
        raise error.stop() from error


def classes_of(file: Path) -> UInt8[np.ndarray, " n"]:
    """Return the classes that a mask shows, without 255."""
    values = np.unique(read_mask(file))
    return values[values != IGNORE]
