"""One encoded picture to 8-bit upright pixels, and all that can be wrong with it."""

import io
import os

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from byol_bnfree.config import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # the list keeps PIL's
# other readers (PostScript starts an interpreter) away from untrusted files
MAX_PIXELS = 89_478_485  # a quarter of a GiB as RGB, PIL's own limit for a warning
ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap width and height
GRAYSCALE_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")


class BadImage(Exception):
    """A picture that cannot be used; `name` says which one and `reason` why."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def stop(self) -> InputError:
        """The error that ends the run under on_bad_image="stop"."""
        return InputError(
            f"{self.name} cannot be used as a picture: {self.reason}; mend or remove "
            f"it, or leave such pictures out with --on-bad-image=skip."
        )


def read_header(file: str | bytes, name: str) -> tuple[int, int, bool]:
    """Height and width as displayed, and whether it is grayscale, without decoding.

    `file` is a path or the encoded bytes. Raises `BadImage`.
    """
    try:
        with _open(file) as image:
            swapped = _orientation(image) >= 5
            height, width = image.size if swapped else image.size[::-1]
            return height, width, image.mode in GRAYSCALE_MODES
    except Exception as error:  # PIL's readers raise almost anything
        raise BadImage(name, _reason(error, file)) from error


def decode(file: str | bytes, name: str, channels: int) -> Image.Image:
    """The picture as PIL mode L (1 channel) or RGB (3), turned as EXIF says.

    Of an animation the first frame; transparency shows white; CMYK and palettes
    become RGB; 16 bits become 8. Raises `BadImage`, also above `MAX_PIXELS` (found
    in the header, before memory is taken) and for a truncated file.
    """
    try:
        with _open(file) as image:
            image.load()
            if _orientation(image) != 1:
                image = ImageOps.exif_transpose(image)
            image = _to_8bit(image)
            if image.mode not in ("1", "L", "LA", "RGB"):
                image = image.convert("RGB")
            mode = "L" if channels == 1 else "RGB"
            return image if image.mode == mode else image.convert(mode)
    except Exception as error:
        raise BadImage(name, _reason(error, file)) from error


def centre_square(image: Image.Image, size: int, share: float) -> Image.Image:
    """The central square of `share` of the shorter side, resized to `size` (bicubic).

    With share 224/256 this is DeepMind's evaluation crop (P1 C.1). A picture no
    larger than `size` has no border to spare: of it the largest square is taken.
    """
    width, height = image.size
    shorter = min(width, height)
    side = shorter if shorter <= size else max(1, int(share * shorter))
    if (width, height) == (size, size):
        return image
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BICUBIC)


def to_array(image: Image.Image) -> UInt8[np.ndarray, "h w c"]:
    """The pixels of a picture that `decode` returned."""
    return np.atleast_3d(np.asarray(image))


def _open(file: str | bytes) -> Image.Image:
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    image = Image.open(source, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(
            f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}"
        )
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # unreadable metadata does not spoil a picture
        return 1


def _to_8bit(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError("32-bit pixels have no agreed range")
        return Image.fromarray((pixels // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        # Not alpha_composite: a third copy of every pixel, of perhaps a gigabyte.
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image


def _reason(error: Exception, file: str | bytes) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        empty = not (len(file) if isinstance(file, bytes) else os.path.getsize(file))
        return "the file is empty" if empty else f"not one of {', '.join(FORMATS)}"
    return str(error) or type(error).__name__
