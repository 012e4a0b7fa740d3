"""Writes a data set as array_record, in the format of tensorflow-datasets.

Neither tensorflow-datasets nor TensorFlow is needed. Both can read the result.
"""

import contextlib
import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from array_record.python.array_record_module import ArrayRecordWriter

from byol_bnfree.data.names import printable
from byol_bnfree.data.set_files import TEMPLATE
from byol_bnfree.data.tf_example import encode_example
from byol_bnfree.errors import InputError
from byol_bnfree.files import sync_folder

SHARD_RECORDS = 50_000  # of a file, at most
FEATURES = "tensorflow_datasets.core.features"
INFO = "dataset_info.json"
UNFINISHED = ".incomplete"  # in the name of a folder that is being written


class Picture(NamedTuple):
    """An example: an encoded picture, its class, and a name."""

    encoded: bytes
    label: int | None
    name: str


class Split(NamedTuple):
    """The pictures of a split, and how many they are."""

    count: int
    pictures: Iterable[Picture]
    checksum: str | None = None
    """Of the pictures before they were written; `checksums` reads it."""


class Description(NamedTuple):
    """All that a data set says of itself."""

    name: str
    version: str
    text: str
    class_names: tuple[str, ...]
    """() without classes."""
    stored_shape: tuple[int | None, int | None, int]
    """None where it varies."""


def write_set(
    root: Path, description: Description, splits: Mapping[str, Split]
) -> Path:
    """Its new folder, `root/NAME/VERSION`, which appears when all of it is written.

    A note names the parts that killed programs have left beside it.

    Raises: InputError if there is such a folder, OSError if the disk is full.
    """
    folder = new_folder(root, description.name, description.version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in sorted(folder.parent.glob(f"*{UNFINISHED}*")):
        print(
            f"note: {printable(left)} is a part of a set; remove it if no program is "
            f"writing it"
        )
    unfinished = f"{description.version}{UNFINISHED}"
    scratch = Path(tempfile.mkdtemp(prefix=unfinished, dir=folder.parent))
    try:
        written = [
            _write_split(scratch, description.name, name, split)
            for name, split in splits.items()
        ]
        _write_json(scratch / "features.json", _features(description))
        if description.class_names:
            names = "\n".join(description.class_names)
            (scratch / "label.labels.txt").write_text(names + "\n", "utf-8")
        _write_json(scratch / INFO, _info(description, written, splits))
        # mkdtemp makes folders that only their owner can read.
        scratch.chmod(0o755)
        # After a power cut the folder has its name only if its files are whole.
        for file in scratch.iterdir():
            sync_folder(file)
        sync_folder(scratch)
        scratch.rename(folder)
        sync_folder(folder.parent)
    except BaseException:
        # Ctrl-C must not leave a part of a set either.
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return folder


def new_folder(root: Path, name: str, version: str) -> Path:
    """`root/NAME/VERSION`, which must not exist, in whatever format it may be.

    Raises: InputError if it does.
    """
    folder = root / name / version
    if folder.exists():
        raise InputError(
            f"{printable(folder)} exists, in another format or as a part; give another "
            f"--data-dir, or remove it."
        )
    return folder


def checksums(folder: Path) -> dict[str, str]:
    """The checksums of the splits that `write_set` was given; {} if it had none."""
    return json.loads((folder / INFO).read_bytes()).get("downloadChecksums", {})


def _write_split(folder: Path, dataset: str, name: str, split: Split) -> dict[str, Any]:
    """The files of a split, and its entry in dataset_info.json."""
    shards = max(1, math.ceil(split.count / SHARD_RECORDS))
    lengths, size, pictures = [], 0, iter(split.pictures)
    for shard in range(shards):
        file = f"{dataset}-{name}.array_record-{shard:05}-of-{shards:05}"
        count = split.count * (shard + 1) // shards - split.count * shard // shards
        length, bytes_written = _write_file(folder / file, islice(pictures, count))
        lengths.append(length)
        size += bytes_written
    return {
        "name": name,
        "filepathTemplate": TEMPLATE,
        "numBytes": str(size),
        "shardLengths": list(map(str, lengths)),
    }


def _write_file(path: Path, pictures: Iterator[Picture]) -> tuple[int, int]:
    """The number of its records and their bytes."""
    writer = ArrayRecordWriter(str(path), "group_size:1")
    count = size = 0
    try:
        for picture in pictures:
            features = {"image": picture.encoded, "id": picture.name.encode()}
            if picture.label is not None:
                features["label"] = picture.label
            record = encode_example(features)
            with _errors_of_the_disk(path):
                writer.write(record)
            count, size = count + 1, size + len(record)
    finally:
        with _errors_of_the_disk(path):
            writer.close()
    return count, size


@contextlib.contextmanager
def _errors_of_the_disk(path: Path) -> Iterator[None]:
    """The writer reports a full disk as a RuntimeError; here it becomes an OSError."""
    try:
        yield
    except RuntimeError as error:
        known = {os.strerror(code): code for code in errno.errorcode}
        said = str(error).partition("failed: ")[2].partition(";")[0]
        if said not in known:
            raise
        raise OSError(known[said], said, str(path)) from error


def _features(description: Description) -> dict[str, Any]:
    shape = [str(-1 if size is None else size) for size in description.stored_shape]
    features = {
        "id": {"pythonClassName": f"{FEATURES}.text_feature.Text", "text": {}},
        "image": {
            "image": {"dtype": "uint8", "shape": {"dimensions": shape}},
            "pythonClassName": f"{FEATURES}.image_feature.Image",
        },
    }
    if description.class_names:
        features["label"] = {
            "classLabel": {"numClasses": str(len(description.class_names))},
            "pythonClassName": f"{FEATURES}.class_label_feature.ClassLabel",
        }
    return {
        "featuresDict": {"features": features},
        "pythonClassName": f"{FEATURES}.features_dict.FeaturesDict",
    }


def _info(
    description: Description,
    written: list[dict[str, Any]],
    splits: Mapping[str, Split],
) -> dict[str, Any]:
    # tensorflow-datasets refuses fields of our own; this one of its fields is meant for
    # checksums of what a set was made of.
    sums = {name: s.checksum for name, s in splits.items() if s.checksum is not None}
    pair = [{"featureKey": key} for key in ("image", "label")]
    # tensorflow-datasets wants a pair here, or nothing.
    keys = {"supervisedKeys": {"tuple": {"items": pair}}}
    return {
        "name": description.name,
        "version": description.version,
        "description": description.text,
        "fileFormat": "array_record",
        "splits": written,
        "downloadChecksums": sums,
        **(keys if description.class_names else {}),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
