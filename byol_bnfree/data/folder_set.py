"""A folder of pictures as array_record: few large files in place of many small ones."""

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.array_files import is_array
from byol_bnfree.data.cifar import ARCHIVES
from byol_bnfree.data.decode import read_header
from byol_bnfree.data.eight_bits import Conversion, conversion
from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.folder import open_folder
from byol_bnfree.data.names import printable, some
from byol_bnfree.data.patience import shown
from byol_bnfree.data.prepared import list_sets
from byol_bnfree.data.reading import BadImage, Fault
from byol_bnfree.data.records import Records
from byol_bnfree.data.set_writer import (
    Description,
    Picture,
    Split,
    checksums,
    write_set,
)
from byol_bnfree.errors import InputError

VERSION = "1.0.0"
TAKEN = ("shapes", *ARCHIVES)
"""Names that mean other pictures."""
SAMPLE = 100  # pictures of a split whose contents tell it from another


def set_name(path: str) -> str:
    """The name of a folder as that of a data set.

    Raises: InputError for the name of another data set.
    """
    name = re.sub(r"\W+", "_", Path(path).resolve().name.lower(), flags=re.ASCII)
    name = name.strip("_") or "pictures"
    if name in TAKEN:
        raise InputError(
            f"the folder {printable(path)} would become the data set {name}, which has "
            f"other pictures; rename the folder."
        )
    return name


def prepare_folder(path: str, root: Path, config: TrainConfig) -> str:
    """Write the pictures of a folder, with the splits that a run would take.

    The files stay as they are, byte for byte. `config` says how the folder is read.
    Returns a sentence about the set.

    Raises:
      InputError: for a folder that cannot be trained on, for pictures that a prepared
        set cannot hold, and if a set of this name holds other pictures.
    """
    name = set_name(path)
    folder = open_folder(dataclasses.replace(config, dataset=f"folder:{path}"))
    records = {"train": folder.train, "test": folder.test}
    splits = {
        split: Split(len(found), _pictures(found, conversion(config.data)), _sum(found))
        for split, found in records.items()
        if found is not None
    }
    sums = {split: described.checksum for split, described in splits.items()}
    for there in list_sets(root):
        if there.name == name and checksums(there.path) == sums:
            return f"{name} is already prepared: {there.path}"
        if there.name == name:
            raise InputError(
                f"{printable(there.path)} holds other pictures than {printable(path)}, "
                f"or does not say which; give another --data-dir, or remove it."
            )
    for note in [*folder.notes, *_left_out(folder.train), *_left_out(folder.test)]:
        print(f"note: {note}")
    train = folder.train
    text = f"The pictures of the folder {printable(Path(path).name)}."
    shape = train.stored_shape
    description = Description(name, VERSION, text, train.class_names, shape)
    return f"{name} is prepared: {write_set(root, description, splits)}"


def _left_out(records: Records | None) -> list[str]:
    """A note about bad pictures, if there are any."""
    if records is None or not records.skipped:
        return []
    names = some(records.skipped)
    return [f"bad pictures of {records.split} are left out: {names}"]


def _sum(records: Records) -> str:
    """A checksum of names, sizes and classes, and of the contents of some pictures."""
    count = min(SAMPLE, len(records))
    sample = np.linspace(0, len(records) - 1, count).astype(int)
    contents = [
        hashlib.sha256(_bytes_of(name, file)).hexdigest()
        for name, file in records.read(sample)
    ]
    return checksum(records.identity, contents)


def _pictures(records: Records, how: Conversion) -> Iterator[Picture]:
    labels = records.labels(np.arange(len(records)))
    doing = f"writing {records.name} {records.split}"
    # Relative names: a prepared set may be given to others.
    names = records.file_names(np.arange(len(records)))
    for index in shown(range(len(records)), len(records), doing):
        ((name, file),) = records.read(np.array([index]))
        encoded = _bytes_of(name, file)
        _check_readable(name, file, encoded, how)
        label = int(labels[index]) if labels[index] >= 0 else None
        yield Picture(encoded, label, names[index])


def _bytes_of(name: str, file: str | bytes) -> bytes:
    try:
        return file if isinstance(file, bytes) else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.") from error


def _check_readable(
    name: str, file: str | bytes, encoded: bytes, how: Conversion
) -> None:
    """Raise `InputError` for a picture that is lost without the ending of its file."""
    reason = None
    try:
        if is_array(file, name, how):
            reason = "it is an array of NumPy, or a TIFF that only tifffile reads"
        else:
            read_header(encoded, name, how)
    except BadImage as error:
        reason = error.reason
    except Fault as error:
        raise error.stop() from error
    if reason is not None:
        raise InputError(
            f"a prepared set cannot hold {name}: {reason}; convert it to PNG, or train "
            f"on the folder itself."
        )
