"""CIFAR-10 and CIFAR-100 from their authors' archives, the binary version.

A record is one byte for each label, then 3,072 of a picture: red, green, blue, row by
row. Nothing in it is code. https://www.cs.toronto.edu/~kriz/cifar.html
"""

import gzip
import hashlib
import io
import shutil
import tarfile
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from byol_bnfree.data.names import printable
from byol_bnfree.data.set_writer import (
    Description,
    Picture,
    Split,
    new_folder,
    write_set,
)
from byol_bnfree.errors import InputError, why_not_read

SIDE = 32  # of a picture, pixels
PIXELS = SIDE * SIDE * 3  # bytes of a picture


class Archive(NamedTuple):
    """Where a data set comes from, and what its archive holds."""

    url: str
    sha256: str
    version: str
    """Of the data set in tensorflow-datasets that has the same pictures."""
    files: dict[str, tuple[str, ...]]
    """Members of the archive by split."""
    names: str
    """The member that lists the classes."""
    labels: int
    """Bytes before a picture; the last is the class."""


ARCHIVES = {
    "cifar10": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        "3.0.2",
        {
            "train": tuple(f"data_batch_{index}.bin" for index in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        "batches.meta.txt",
        labels=1,
    ),
    "cifar100": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        "3.0.2",
        {"train": ("train.bin",), "test": ("test.bin",)},
        "fine_label_names.txt",
        labels=2,
    ),
}


def prepare_cifar(name: str, root: Path, archive: Path | None) -> Path:
    """Write CIFAR-10 or CIFAR-100 as array_record; the pictures keep their order.

    Args:
      archive: the .tar.gz of the binary version; None downloads it, and compares its
        checksum.

    Raises:
      InputError: an archive that is not there, or is another; or a set that is there.
    """
    source = ARCHIVES[name]
    new_folder(root, name, source.version)  # before a download
    archive = _downloaded(source, root) if archive is None else archive
    try:
        _check_whole(archive)
        with tarfile.open(archive) as members:
            contents = {Path(m.name).name: m for m in members if m.isfile()}
            classes = tuple(_read(members, contents, source.names).decode().split())
            splits = {
                split: _split(members, contents, source, split, len(classes))
                for split in source.files
            }
    except (OSError, tarfile.TarError, EOFError, UnicodeError, zlib.error) as error:
        raise InputError(
            f"{printable(archive)} cannot be read as an archive "
            f"({why_not_read(error)}); give the .tar.gz of {source.url} with --archive."
        ) from error
    text = f"{name}, from {source.url}; the pictures are stored as PNG."
    shape = (SIDE, SIDE, 3)
    return write_set(
        root, Description(name, source.version, text, classes, shape), splits
    )


def _check_whole(archive: Path) -> None:
    """Raise an error if a gzip file is damaged.

    Its checksum is at its end, which `tarfile` does not read.
    """
    with open(archive, "rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return
    with gzip.open(archive) as file:
        while file.read(1 << 20):
            pass


def _split(
    members: tarfile.TarFile, contents: dict, source: Archive, split: str, classes: int
) -> Split:
    pieces = [_read(members, contents, name) for name in source.files[split]]
    size = source.labels + PIXELS
    for name, piece in zip(source.files[split], pieces, strict=True):
        if not piece or len(piece) % size:
            raise InputError(
                f"{name} has {len(piece):,} bytes, which are not whole records of "
                f"{size:,}; give the archive of {source.url}."
            )
    records = np.frombuffer(b"".join(pieces), np.uint8).reshape(-1, size)
    labels = records[:, source.labels - 1]
    if labels.max() >= classes:
        raise InputError(
            f"the {split} split has the class {labels.max()}, and {source.names} names "
            f"{classes}; give the archive of {source.url}."
        )
    return Split(len(records), _pictures(records, source.labels, split))


def _pictures(records: np.ndarray, labels: int, split: str) -> Iterator[Picture]:
    for index, record in enumerate(records):
        pixels = record[labels:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)
        encoded = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(encoded, "PNG")
        yield Picture(
            encoded.getvalue(), int(record[labels - 1]), f"{split}_{index:05}"
        )


def _read(members: tarfile.TarFile, contents: dict, name: str) -> bytes:
    if name not in contents:
        raise InputError(
            f"the archive has no file {name}; give the binary version of the data set "
            f"(the one 'suitable for C programs')."
        )
    return members.extractfile(contents[name]).read()


def other_archive(name: str, archive: Path) -> str | None:
    """Return a sentence if the file is another than the known one; None if it is it."""
    source, found = ARCHIVES[name], _sha256(archive)
    if found == source.sha256:
        return None
    return (
        f"{printable(archive)} has the checksum {found}, and not that of "
        f"{source.url}, so its pictures may be others; check where it comes from."
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _downloaded(source: Archive, root: Path) -> Path:
    """The archive in `root/downloads`, with the right checksum."""
    path = root / "downloads" / source.url.rpartition("/")[2]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is whole, so an aborted download is not taken for the archive.
        part = path.with_suffix(".part")
        try:
            with (
                urllib.request.urlopen(source.url, timeout=60) as stream,
                open(part, "wb") as file,
            ):
                shutil.copyfileobj(stream, file)
        except OSError as error:
            raise InputError(
                f"{source.url} could not be downloaded ({error}); download it on "
                f"another machine and give it with --archive=FILE."
            ) from error
        part.rename(path)
    found = _sha256(path)
    if found != source.sha256:
        raise InputError(
            f"{path} has the checksum {found}, and not that of {source.url}; delete "
            f"it, and prepare the data set again."
        )
    return path
