"""File endings of pictures, and the readers of Pillow that we use for them."""

import functools
import os

from PIL import Image

# Tried on every picture, whatever its ending.
COMMON = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")

ARRAYS = (".npy", ".npz")  # NumPy's, which `array_files` reads

# EPS starts an interpreter, WMF needs Windows, and the others read a header only.
NEVER = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
READERS = {"MPO": "JPEG"}  # formats that the reader of another format opens


@functools.cache
def endings() -> dict[str, str]:
    """Map each ending (lower case, with its dot) to the reader of such files."""
    Image.init()
    known = Image.registered_extensions().items()
    readers = {ending: READERS.get(kind, kind) for ending, kind in known}
    return {
        ending: reader
        for ending, reader in readers.items()
        if reader in Image.OPEN and reader not in NEVER
    }


def ending_of(name: str) -> str:
    """Return a name's ending in lower case, with its dot; "" without one."""
    return os.path.splitext(name)[1].lower()


def is_picture(name: str) -> bool:
    """Return True if a name ends as pictures do."""
    return ending_of(name) in endings() or is_numpy(name)


def is_numpy(name: str) -> bool:
    """Return True if a name ends as NumPy files do."""
    return ending_of(name) in ARRAYS


def readers_for(name: str | None) -> tuple[str, ...]:
    """Return the readers to try; the reader of the ending comes first.

    Some readers of rare formats accept any bytes. They are tried only on files with
    their own ending.
    """
    own = endings().get(ending_of(name)) if name else None
    return tuple(dict.fromkeys([own, *COMMON] if own else COMMON))
