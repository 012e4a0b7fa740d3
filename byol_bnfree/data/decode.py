"""Decodes one picture to upright 8-bit pixels, and reports its faults."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, SAMPLESPERPIXEL

from byol_bnfree.data.array_files import array_layout, is_array, read_array
from byol_bnfree.data.eight_bits import (
    AS_IT_IS,
    FLOATS,
    Conversion,
    is_deep_colour,
    scaled,
    to_8bit,
)
from byol_bnfree.data.geometry import Picture, Planes, from_array
from byol_bnfree.data.reading import BadImage, Fault, open_picture
from byol_bnfree.errors import InputError

# Orientations of EXIF. The latter swap width and height.
UPRIGHT, SWAPPED = 1, (5, 6, 7, 8)
GRAYSCALE_MODES = ("1", "L", "LA", "La", "F")  # and all modes that start with I


class Header(NamedTuple):
    """The properties in the header of a picture's file."""

    height: int
    width: int
    channels: int
    """1 gray, 3 colours, others as they are stored."""
    pages: bool
    """True if the file has more pictures than the first, which we use."""
    bands: bool
    """True if the file has more bands than we use."""


def read_header(file: str | bytes, name: str, how: Conversion = AS_IT_IS) -> Header:
    """Read a picture's size (that of `decode`) and kind without decoding it.

    `file` is a path or the encoded bytes.

    Raises:
      BadImage: if the picture cannot be used.
      Fault: if the machine failed.
    """
    with _blamed_on(name):
        if is_array(file, name, how):
            return _array_header(file, name, how)
        opened = open_picture(file, name, how.max_pixels, whole=False)
        with opened.file:
            return _picture_header(opened.image, how)


def decode(
    file: str | bytes, name: str, channels: int, how: Conversion = AS_IT_IS
) -> Picture:
    """Decode a picture to PIL mode L (1 channel) or RGB (3), rotated as EXIF says.

    With `how.upright` False it keeps the frame in which it is stored.
    Another number of channels makes `Planes`, of the bands as they are stored.

    Of an animation we take the first frame. Transparent pixels show `how.alpha`. CMYK
    and palettes become RGB. Values of more than 8 bits are scaled so that `how.white`
    becomes 255.

    Raises:
      BadImage: if the picture cannot be used. It may be truncated, or have more pixels
        than `how.max_pixels`.
      Fault: if the machine failed, whatever the picture.
    """
    with _blamed_on(name):
        if is_array(file, name, how):
            return _array_picture(file, name, channels, how)
        opened = open_picture(file, name, how.max_pixels, whole=True)
        with opened.file:
            return _picture(opened.image, channels, how)


@contextlib.contextmanager
def _blamed_on(name: str) -> Iterator[None]:
    """Turn a decoder's error into a `BadImage`, and the machine's into a `Fault`."""
    try:
        yield
    except (BadImage, Fault, InputError):
        raise
    except MemoryError as error:
        raise Fault(name, "no memory is left") from error
    except Exception as error:  # Pillow's readers raise almost anything
        if isinstance(error, OSError) and error.errno is not None:
            raise Fault(name, error.strerror or str(error)) from error
        raise BadImage(name, str(error) or type(error).__name__) from error


def _picture_header(image: Image.Image, how: Conversion) -> Header:
    if image.mode == "F" and how.white is None:
        raise ValueError(FLOATS)
    width, height = _size(image, how.upright)
    grayscale = image.mode in GRAYSCALE_MODES or image.mode.startswith("I")
    channels = 1 if grayscale else 3
    if how.channels not in (None, 1, 3):
        channels = len(image.getbands())
    _check_channels(channels, how.channels)
    return Header(height, width, channels, _has_pages(image), _drops_bands(image))


def _picture(image: Image.Image, channels: int, how: Conversion) -> Picture:
    # Asked before `load`, which empties the list of tiles that tells it.
    deep = is_deep_colour(image)
    image.load()
    # `exif_transpose` copies every picture, so it is called for turned ones only.
    if how.upright and _orientation(image) != UPRIGHT:
        image = ImageOps.exif_transpose(image)
    if channels not in (1, 3):
        _check_channels(len(image.getbands()), channels)
        return Planes(image.split())
    image = to_8bit(image, how, deep)
    if image.mode not in ("1", "L", "LA", "RGB"):
        image = image.convert("RGB")
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _array_header(file: str, name: str, how: Conversion) -> Header:
    layout, dtype = array_layout(file, name, how)
    if dtype.kind == "f" and how.white is None:
        raise ValueError(FLOATS)
    _check_channels(layout.channels, how.channels)
    return Header(*layout[:3], pages=False, bands=False)


def _array_picture(file: str, name: str, channels: int, how: Conversion) -> Picture:
    pixels = read_array(file, name, how)
    _check_channels(pixels.shape[-1], channels)
    image = from_array(scaled(pixels, how.white))
    if isinstance(image, Planes) or pixels.shape[-1] == channels:
        return image
    return image.convert("L" if channels == 1 else "RGB")


def _check_channels(found: int, wanted: int | None) -> None:
    """Gray and colour become each other; nothing else can."""
    if wanted not in (None, found) and {found, wanted} != {1, 3}:
        raise ValueError(
            f"it has {found} channel{'s' * (found > 1)}, and pictures of this run have "
            f"{wanted} (--data.channels)"
        )


def _orientation(image: Image.Image) -> int:
    """Return 1 to 8. Pillow turns a picture by these values only."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
        return int(found) if found in range(1, 9) else UPRIGHT
    except Exception:  # unreadable metadata does not spoil a picture
        return UPRIGHT


def _size(image: Image.Image, upright: bool) -> tuple[int, int]:
    """Return width and height, as displayed if `upright`, of an image not loaded."""
    # Some versions of Pillow have turned the size of a TIFF already, others have not.
    tags = getattr(image, "tag_v2", None)
    stored = image.size if tags is None else (tags[IMAGEWIDTH], tags[IMAGELENGTH])
    return stored[::-1] if upright and _orientation(image) in SWAPPED else stored


def _has_pages(image: Image.Image) -> bool:
    try:
        return getattr(image, "n_frames", 1) > 1
    except Exception:  # the second picture is damaged, but we do not use it
        return False


def _drops_bands(image: Image.Image) -> bool:
    stored = getattr(image, "tag_v2", {}).get(SAMPLESPERPIXEL, 1)
    return image.mode == "RGBX" or stored > len(image.getbands())
