"""A folder of pictures as array_record: few large files in place of many small ones."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from byol_bnfree.config import InputError, TrainConfig
from byol_bnfree.data.folder import open_folder
from byol_bnfree.data.patience import shown
from byol_bnfree.data.records import Records
from byol_bnfree.data.set_writer import Description, Picture, Split, write_set

VERSION = "1.0.0"


def set_name(path: str) -> str:
    """The name of a folder as that of a data set."""
    name = re.sub(r"\W+", "_", Path(path).resolve().name.lower(), flags=re.ASCII)
    return name.strip("_") or "pictures"


def prepare_folder(path: str, root: Path) -> Path:
    """Write the pictures of a folder, with the splits that a run would take.

    The files stay as they are, byte for byte.

    Raises: InputError for a folder that cannot be trained on.
    """
    found = open_folder(TrainConfig(dataset=f"folder:{path}"))
    for note in found.notes:
        print(f"note: {note}")
    splits = {"train": found.train, "test": found.test}
    name, train = set_name(path), found.train
    description = Description(
        name,
        VERSION,
        f"The pictures of the folder {Path(path).name}.",
        train.class_names,
        train.stored_shape,
    )
    return write_set(
        root,
        description,
        {
            split: Split(len(records), _pictures(records))
            for split, records in splits.items()
            if records is not None
        },
    )


def _pictures(records: Records) -> Iterator[Picture]:
    labels = records.labels(np.arange(len(records)))
    doing = f"writing {records.name} {records.split}"
    for index in shown(range(len(records)), len(records), doing):
        ((name, file),) = records.read(np.array([index]))
        try:
            encoded = file if isinstance(file, bytes) else Path(file).read_bytes()
        except OSError as error:
            raise InputError(f"{name} cannot be read: {error.strerror}.") from error
        label = int(labels[index]) if labels[index] >= 0 else None
        yield Picture(encoded, label, name)
