"""The files that are pictures: endings and readers of Pillow that are used here."""

import functools
import os

from PIL import Image

# Tried on every picture, whatever its ending.
COMMON = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")

# EPS starts an interpreter, WMF asks Windows; the others only read a header.
NEVER = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
READERS = {"MPO": "JPEG"}  # formats that another one's reader opens


@functools.cache
def endings() -> dict[str, str]:
    """Ending in lower case, with its dot, to the reader of such files."""
    Image.init()
    known = Image.registered_extensions().items()
    readers = {ending: READERS.get(kind, kind) for ending, kind in known}
    return {
        ending: reader
        for ending, reader in readers.items()
        if reader in Image.OPEN and reader not in NEVER
    }


def ending_of(name: str) -> str:
    """In lower case, with its dot; "" without one."""
    return os.path.splitext(name)[1].lower()


def is_picture(name: str) -> bool:
    """Whether the ending is that of a picture."""
    return ending_of(name) in endings()


def readers_for(name: str | None) -> tuple[str, ...]:
    """Readers to try, the ending's own first.

    Readers of rare formats, some of which take any bytes for theirs, are kept away
    from files that do not ask for them by their ending.
    """
    own = endings().get(ending_of(name)) if name else None
    return tuple(dict.fromkeys([own, *COMMON] if own else COMMON))
