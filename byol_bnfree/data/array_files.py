"""Pictures that Pillow does not know: NumPy files, and TIFF of other kinds.

A picture is [h w], [h w c] or [c h w] with at most 16 channels. Sizes are compared with
the limits before an array is made, and nothing in a file is executed. TIFF of many
bands, or of numbers that Pillow does not know, is read by tifffile (the extra `tiff`).
"""

import contextlib
import io
import math
import zipfile
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from PIL import TiffImagePlugin as tiff

from byol_bnfree.data.eight_bits import Conversion
from byol_bnfree.data.formats import ARRAYS, ending_of
from byol_bnfree.data.names import pixels_of_sides
from byol_bnfree.data.reading import open_file
from byol_bnfree.errors import InputError
from byol_bnfree.settings.types import MOST_CHANNELS

TIFF = (".tif", ".tiff")
KINDS = "buif"  # True and False, whole numbers, floats
LARGEST_ITEM = 8  # bytes
UNASSOCIATED_ALPHA = 2  # extra sample of TIFF: the band is transparency
SIGNED = 2  # sample format; Pillow takes signed bytes for unsigned ones
CHANNEL_AXES = frozenset("SCQI")  # of tifffile; time and depth are none


class Layout(NamedTuple):
    """How a file's array holds a picture."""

    height: int
    width: int
    channels: int
    axis: int | None
    """Of the channels; None where there is one."""


def is_array(file: str | bytes, name: str, how: Conversion) -> bool:
    """Whether a picture is read here rather than by Pillow."""
    if isinstance(file, bytes):
        return False
    ending = ending_of(file)
    if ending in ARRAYS:
        return True
    return ending in TIFF and _needs_tifffile(file, name, how)


def array_layout(file: str, name: str, how: Conversion) -> tuple[Layout, np.dtype]:
    """Sizes and number type, without reading the pixels.

    Raises:
      ValueError: no picture. BadImage, Fault: as of `reading.open_file`.
    """
    with open_file(file, name, how.max_pixels) as source:
        shape, dtype, _ = _header(source, file, name, how)
    return _layout(shape, how), dtype


def read_array(file: str, name: str, how: Conversion) -> Shaped[np.ndarray, "h w c"]:
    """The pixels, as they are stored; errors of `array_layout`."""
    with open_file(file, name, how.max_pixels, whole=True) as source:
        shape, _, read = _header(source, file, name, how)
        layout, pixels = _layout(shape, how), read()
    if layout.axis is None:
        return pixels.reshape(layout.height, layout.width, 1)
    return np.moveaxis(pixels, layout.axis, -1)


def _header(source: io.BufferedIOBase, file: str, name: str, how: Conversion):
    """Shape, number type, and what reads the array."""
    ending = ending_of(file)
    if ending in TIFF:
        return _tiff(source, name, how)
    if ending == ".npz":
        archive = zipfile.ZipFile(source)
        source = archive.open(_member(archive))
    version = np.lib.format.read_magic(source)
    known = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in known:
        raise ValueError(f"its NumPy format {version} is not known")
    shape, fortran, dtype = known[version](source)
    _check(shape, dtype, how)
    order = "F" if fortran else "C"

    def read() -> np.ndarray:
        data = source.read(math.prod(shape) * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(shape, order=order)

    return shape, dtype, read


def _member(archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    if "image.npy" in names:
        return "image.npy"
    if len(names) != 1:
        raise ValueError(
            f"it holds {len(names)} arrays; keep one, or name the picture's array image"
        )
    return names[0]


def _tiff(source: io.BufferedIOBase, name: str, how: Conversion):
    try:
        import tifffile
    except ImportError:
        raise InputError(
            f"{name} is a TIFF of bands or numbers that Pillow does not read, so it "
            f'needs tifffile; pip install ".[tiff]".'
        ) from None
    handle = tifffile.FileHandle(source, name=name)  # a descriptor has no name
    everything = tifffile.TiffFile(handle).series
    if not everything:
        raise ValueError("it holds no picture")
    series = everything[0]
    axes, shape, dtype = series.axes, series.shape, np.dtype(series.dtype)
    if not {"Y", "X"} <= set(axes):
        raise ValueError(f"its axes are {axes}, but a picture needs Y and X")
    others = [k for k, axis in enumerate(axes) if axis not in "YX"]
    channels = math.prod(shape[k] for k in others)
    if not {axes[k] for k in others} <= CHANNEL_AXES and channels != how.channels:
        raise ValueError(
            f"its axes are {axes} with {channels} planes; if the planes are channels, "
            f"give --data.channels={channels}"
        )
    rows, columns = axes.index("Y"), axes.index("X")
    found = (shape[rows], shape[columns], channels)
    _check(found, dtype, how)
    if series.keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        raise ValueError("0 is white in it, and its value of black is unknown")

    def read() -> np.ndarray:
        moved = np.moveaxis(series.asarray(), (rows, columns), (0, 1))
        return moved.reshape(found)

    return found, dtype, read


def _needs_tifffile(file: str, name: str, how: Conversion) -> bool:
    """Whether Pillow cannot read a TIFF, or would lose bands or bits of it."""
    if how.channels not in (None, 1, 3):
        return True
    with open_file(file, name, how.max_pixels) as source:
        try:
            header = source.read(8)
            header += source.read(8) if 43 in header[2:4] else b""  # BigTIFF
            tags = tiff.ImageFileDirectory_v2(header)
            source.seek(tags.next)
            tags.load(source)
            bands = tags.get(tiff.SAMPLESPERPIXEL, 1)
            deep = max(tags.get(tiff.BITSPERSAMPLE, (1,))) > 8
            extra = tags.get(tiff.EXTRASAMPLES, ())
            signed = tags.get(tiff.SAMPLEFORMAT, (1,))[0] == SIGNED
            unknown = not _known_to_pillow(source)
        except Exception:  # a damaged one, of which Pillow says more
            return False
    two = bands == 2 and UNASSOCIATED_ALPHA not in extra
    lost = bands > 1 and deep and how.white is not None
    return bands > 4 or two or unknown or lost or (signed and not deep)


def _known_to_pillow(source: io.BufferedIOBase) -> bool:
    """Whether Pillow has a mode for the bands and numbers of a TIFF."""
    source.seek(0)
    try:
        tiff.TiffImageFile(source)
    except SyntaxError as error:
        # "unknown pixel mode" and "unknown data organization" are no fault of the file.
        return not str(error).startswith("unknown")
    return True


def _check(shape: tuple[int, ...], dtype: np.dtype, how: Conversion) -> None:
    if dtype.kind not in KINDS or dtype.itemsize > LARGEST_ITEM:
        raise ValueError(
            f"it holds {dtype}, but pixels must be numbers of at most 64 bits"
        )
    layout = _layout(shape, how)
    if layout.height * layout.width > how.max_pixels:
        raise ValueError(
            f"{pixels_of_sides(layout.height, layout.width)} are more than "
            f"{how.max_pixels:,} (--data.max-pixels of training)"
        )


def _layout(shape: tuple[int, ...], how: Conversion) -> Layout:
    """The channels are the last axis or the first: one of the wanted size, or small."""
    found = None
    if len(shape) == 2:
        found = Layout(*shape, 1, None)
    elif len(shape) == 3:
        small = [axis for axis in (2, 0) if 1 <= shape[axis] <= MOST_CHANNELS]
        small.sort(key=lambda axis: shape[axis] != how.channels)
        with contextlib.suppress(IndexError):
            axis = small[0]
            height, width = (n for k, n in enumerate(shape) if k != axis)
            found = Layout(height, width, shape[axis], axis)
    if found is None or min(shape) < 1:
        raise ValueError(
            f"its array has shape {tuple(shape)}, but a picture must be [h w], [h w c] "
            f"or [c h w] with at most {MOST_CHANNELS} channels"
        )
    return found
