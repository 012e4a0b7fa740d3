"""Opens a picture's file with the right reader; tells bad files from machine faults."""

import errno
import io
import os
import stat
import struct
from typing import NamedTuple

from PIL import Image

from byol_bnfree.config import DataConfig
from byol_bnfree.data.formats import COMMON, readers_for
from byol_bnfree.data.names import pixels_of_sides
from byol_bnfree.errors import InputError, RunStopped

MAX_PIXELS = DataConfig().max_pixels
BYTES_PER_PIXEL = 16  # a file with more bytes per allowed pixel is no picture
PREFIX = 16  # bytes by which Pillow's readers recognize their files
# Errors that Pillow's readers raise for files of another format.
NOT_MINE = (SyntaxError, IndexError, TypeError, struct.error)
# Errors of the system that concern one file. All others are faults of the machine.
OF_THE_FILE = {
    errno.EACCES: "reading it is not permitted",
    errno.EPERM: "reading it is not permitted",
    errno.EISDIR: "it is a folder",
    errno.ELOOP: "it is a link to itself",
    errno.ENOTDIR: "its path or link goes through a file, as if that were a folder",
    errno.ENAMETOOLONG: "its path or link is too long",
    errno.ENXIO: "it is not a regular file",
}


class BadImage(Exception):
    """A picture that cannot be used. `name` identifies it and `reason` says why."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def stop(self) -> InputError:
        """Return the error that ends the run under on_bad_image="stop"."""
        return InputError(
            f"{self.name} cannot be used as a picture: {self.reason}; repair or remove "
            f"it, or skip such pictures with --on-bad-image=skip."
        )


class Fault(Exception):
    """The machine failed while it read a picture. The picture may be good."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def stop(self) -> "ReadingFailed":
        """Return the error that ends the run, whatever on_bad_image says."""
        return ReadingFailed(
            f"{self.name} could not be read: {self.reason}. This is a fault of the "
            f"machine or its disks, not of the picture."
        )


class ReadingFailed(RunStopped, OSError):
    """The run cannot go on because pictures cannot be read."""


class Opened(NamedTuple):
    """An open picture. Its pixels are not read yet."""

    image: Image.Image
    file: io.BufferedIOBase


def open_picture(
    file: str | bytes, name: str, max_pixels: int, *, whole: bool
) -> Opened:
    """Open a picture and read its header. Close `file` of the result when done.

    `file` is a path or the encoded bytes. With `whole` all bytes are read first. Errors
    of the disk can then be told from errors of the decoder.

    Raises:
      BadImage: if it is no file or no picture, or has more than `max_pixels`. The last
        is found in the header, before memory is allocated.
      Fault: if the machine failed.
    """
    readers = COMMON if isinstance(file, bytes) else readers_for(file)
    source = open_file(file, name, max_pixels, whole=whole)
    try:
        image = _identify(source, name, readers)
        if image.width * image.height > max_pixels:
            raise BadImage(
                name,
                f"{pixels_of_sides(image.height, image.width)} are more than "
                f"{max_pixels:,} (--data.max-pixels of training)",
            )
        return Opened(image, source)
    except BaseException:
        source.close()
        raise


def open_file(
    file: str | bytes, name: str, max_pixels: int, *, whole: bool = False
) -> io.BufferedIOBase:
    """A file or the bytes given, to read from; errors and `whole` as `open_picture`."""
    if isinstance(file, bytes):
        return io.BytesIO(file)
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        source = os.fdopen(descriptor, "rb")  # fails for a folder
        status = os.fstat(descriptor)
        problem = _problem(status, max_pixels)
        if problem is None and whole:
            with source:
                return io.BytesIO(source.read())
    except OSError as error:
        raise of_disk(error, file, name) from error
    if problem is not None:
        source.close()
        raise BadImage(name, problem)
    return source


def _problem(status: os.stat_result, max_pixels: int) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_size == 0:
        return "the file is empty"
    if status.st_size > BYTES_PER_PIXEL * max_pixels:
        return (
            f"the file has {status.st_size:,} bytes, too many for {max_pixels:,} "
            f"pixels (--data.max-pixels of training)"
        )
    return None


def of_disk(error: OSError, path: str, name: str) -> BadImage | Fault:
    """Decide if an error of the system concerns the file or the machine."""
    reason = OF_THE_FILE.get(error.errno)
    if error.errno == errno.ENOENT and os.path.lexists(path):
        reason = "it is a link to a file that does not exist"
    if reason is not None:
        return BadImage(name, reason)
    return Fault(name, error.strerror or str(error))


def _identify(
    source: io.BufferedIOBase, name: str, readers: tuple[str, ...]
) -> Image.Image:
    """Act as `Image.open`, but report why each reader failed, and warn of nothing."""
    Image.init()
    prefix = source.read(PREFIX)
    if not prefix:
        raise BadImage(name, "the file is empty")
    reasons = []
    for reader in readers:
        if reader not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[reader]
        accepted = accept(prefix) if accept else True
        if isinstance(accepted, str):
            reasons.append(f"{reader}: {accepted}")
        if accepted is not True and (not accepted or isinstance(accepted, str)):
            continue
        source.seek(0)
        try:
            return factory(source, name)
        except NOT_MINE as error:
            why = str(error) or type(error).__name__
            reasons.append(f"{reader}: {_detail(reader, source) or why}")
        except MemoryError as error:
            raise Fault(name, "no memory is left") from error
        except OSError as error:
            if error.errno is not None:
                raise Fault(name, error.strerror) from error
            reasons.append(f"{reader}: {error}")
        except Exception as error:  # damaged headers raise almost anything
            reasons.append(f"{reader}: {str(error) or type(error).__name__}")
    if not reasons:
        raise BadImage(name, f"it is not one of {', '.join(readers)}")
    raise BadImage(name, f"Pillow cannot read it as {'; '.join(reasons)}")


def _detail(reader: str, source: io.BufferedIOBase) -> str | None:
    """Describe a TIFF of a kind that Pillow does not support."""
    if reader != "TIFF":
        return None
    from PIL.TiffImagePlugin import (
        BITSPERSAMPLE,
        IMAGEWIDTH,
        SAMPLEFORMAT,
        SAMPLESPERPIXEL,
        ImageFileDirectory_v2,
    )

    try:
        source.seek(0)
        header = source.read(8)
        if header[2] == 43 or header[3] == 43:
            return None  # BigTIFF has a longer header
        tags = ImageFileDirectory_v2(header)
        source.seek(tags.next)
        tags.load(source)
        if IMAGEWIDTH not in tags:
            return "it holds no picture"
        bands = tags.get(SAMPLESPERPIXEL, 1)
        bits, kind = tags.get(BITSPERSAMPLE, (1,))[0], tags.get(SAMPLEFORMAT, (1,))[0]
    except Exception:
        return None
    kinds = {1: "unsigned", 2: "signed", 3: "floating-point"}
    return (
        f"{bands} band{'s' * (bands != 1)} of {bits} bits, "
        f"{kinds.get(kind, 'of an unknown type')}, which it does not support"
    )
