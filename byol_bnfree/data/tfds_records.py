"""Reads data sets in the format of tensorflow-datasets, which is not needed."""

import contextlib
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from jaxtyping import Int, Int8, Int32, Int64

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.fingerprint import checksum, sizes_and_times
from byol_bnfree.data.names import pixels_of_sides, printable
from byol_bnfree.data.prepared import (
    PreparedSet,
    check_features,
    data_root,
    find_set,
    needs_reader,
)
from byol_bnfree.data.records import Found, needs_test
from byol_bnfree.data.set_files import Span, read_features, read_spans
from byol_bnfree.data.set_writer import checksums
from byol_bnfree.data.tf_example import decode_example
from byol_bnfree.errors import InputError

LABEL_CHUNK = 1024  # records held at a time when only labels or names are wanted
UNREAD = -2  # label of a record that was not read yet


@dataclass
class PreparedRecords:
    """The encoded images of one split, by index; see `records.Records`."""

    name: str
    split: str
    class_names: tuple[str, ...]
    stored_shape: tuple[int | None, int | None, int]
    total: int
    skipped: dict[str, str]
    files: list[tuple[str, int, int]]  # path, first record, record after the last
    location: str
    examples: ArrayRecordDataSource  # of serialized tf.train.Example
    keys: tuple[str, str | None]  # feature names of image and label
    known_labels: Int32[np.ndarray, " n"]  # UNREAD until the record is read
    known_names: list[str] | None  # "" until read; None: the set names no files

    def __len__(self) -> int:
        return len(self.examples)

    def read(self, indices: Int[np.ndarray, " b"]) -> list[tuple[str, bytes]]:
        """Return a printable name and the encoded picture of each. Keep its label.

        Several threads may read. What one keeps of a record equals what another keeps.
        """
        image, label = self.keys
        examples = self.parse(indices.tolist())
        if label is not None:
            found = [e[label].int64_list.value[0] for e in examples]
            self.known_labels[indices] = found
        if self.known_names is not None:
            for index, example in zip(indices.tolist(), examples, strict=True):
                (name,) = example["id"].bytes_list.value
                self.known_names[index] = name.decode()
        names = [f"record {i} of {self.name} {self.split}" for i in indices]
        pictures = [e[image].bytes_list.value[0] for e in examples]
        return list(zip(names, pictures, strict=True))

    def labels(self, indices: Int[np.ndarray, " b"]) -> Int32[np.ndarray, " b"]:
        """Return labels. Records that were not read yet are read for this."""
        self._read_all(indices[self.known_labels[indices] == UNREAD])
        return self.known_labels[indices]

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return the files that a folder had before it was prepared, or numbers.

        Both splits of a folder may have a file, which then has one name. Records that
        were not read yet are read for this.
        """
        known = self.known_names
        if known is None:
            return [f"{self.name}/{self.split}/{i}" for i in indices]
        self._read_all(np.array([i for i in indices if not known[i]], int))
        return [known[i] for i in indices]

    def _read_all(self, unread: Int[np.ndarray, " m"]) -> None:
        for start in range(0, len(unread), LABEL_CHUNK):
            self.read(unread[start : start + LABEL_CHUNK])

    @cached_property
    def identity(self) -> str:
        """A checksum of the files' names and sizes, and of the records in use."""
        names = [(os.path.basename(path), *span) for path, *span in self.files]
        version = os.path.basename(self.location)
        return checksum(self.name, version, names, self._on_disk[:, 0])

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of the files and of their modification times."""
        return checksum(self.location, self.identity, self._on_disk[:, 1])

    @cached_property
    def _on_disk(self) -> Int64[np.ndarray, "n 2"]:
        return sizes_and_times([path for path, *_ in self.files])

    def parse(self, indices: list[int]) -> list[Any]:
        """Return the features of each record. This is 20 times faster than tfds."""
        try:
            serialized = self.examples.__getitems__(indices)
        except RuntimeError as error:  # the only type that array_record raises
            raise InputError(
                f"the files of {self.name} {self.split} are damaged ({error}); "
                f"remove the data set and prepare it again."
            ) from error
        return [decode_example(example) for example in serialized]


def open_both(config: TrainConfig) -> Found:
    """Open both splits of a prepared data set; see `open_prepared`."""
    train, test, notes = open_prepared(config, "train"), None, []
    try:
        test = open_prepared(config, "test")
    except InputError as error:
        if needs_test(config):
            raise
        notes.append(f"the test split is not used: {error}")
    height, width, _ = train.stored_shape
    kind = "sizes differ"
    if height is not None:
        kind = f"all pictures are {pixels_of_sides(height, width)}"
    return Found(train, test, notes, {}, f"{kind}, as the data set says")


def open_prepared(
    config: TrainConfig, split: Literal["train", "test"]
) -> PreparedRecords:
    """Open one split of a prepared data set. `config.data` names it, with slices.

    Raises:
      InputError: if the set is not on disk, is stored in another format, lacks the
        split, a file or an image, or if the two splits share images.
    """
    found = find_set(config.dataset, data_root(config.data_dir))
    names = {"train": config.data.train_split, "test": config.data.test_split}
    # A run without evaluation needs no test split.
    forgiven = (InputError,) if split == "train" and not needs_test(config) else ()
    spans: dict[str, list[Span]] = {"train": read_spans(found, names["train"])}
    with contextlib.suppress(*forgiven):
        spans["test"] = read_spans(found, names["test"])
    ranges = {
        name: [(s.filename, s.skip, s.skip + s.take) for s in spans.get(name, [])]
        for name in names
    }
    # Slices such as train[:90%] and train[50%:] would overlap.
    check_disjoint(names, ranges)
    image, (height, width, channels), label, classes = read_features(found)
    examples = ArrayRecordDataSource(spans[split])
    unread = UNREAD if label else -1
    return PreparedRecords(
        name=found.name,
        split=split,
        class_names=classes,
        stored_shape=(height, width, 1 if channels == 1 else 3),
        total=sum(stop - start for r in ranges.values() for _, start, stop in r),
        skipped={},
        files=ranges[split],
        location=printable(found.path),
        examples=examples,
        keys=(image, label),
        known_labels=np.full(len(examples), unread, np.int32),
        known_names=[""] * len(examples) if _was_folder(found) else None,
    )


def _was_folder(found: PreparedSet) -> bool:
    """Whether `prepare` wrote the set from a folder, whose files its records name."""
    return bool(checksums(found.path).keys() & found.splits.keys())


def object_classes(
    config: TrainConfig, split: Literal["train", "test"]
) -> tuple[tuple[str, ...], Int8[np.ndarray, "n k"]]:
    """Return class names, and the classes of the objects in each image.

    This is for sets with the features `labels` and `labels_no_difficult`, such as
    voc/2007. A value is 1 if the class is present and -1 if it is absent. It is 0 if
    all objects of the class are marked as difficult.

    Raises:
      InputError: if the set lacks these features, and as `open_prepared`.
    """
    records = open_prepared(config, split)
    found = find_set(config.dataset, data_root(config.data_dir))
    check_features(found)
    needs_reader()
    import tensorflow_datasets as tfds

    path = found.path
    features = tfds.builder_from_directory(str(path)).info.features
    if not {"labels", "labels_no_difficult"} <= features.keys():
        raise InputError(
            f"data set {records.name} does not say which objects are in its images "
            f"(features: {', '.join(sorted(features))}); choose one that does, such "
            f"as voc/2007."
        )
    names = tuple(features["labels"].feature.names)
    rows = np.full((len(records), len(names)), -1, np.int8)
    for start in range(0, len(records), LABEL_CHUNK):
        stop = min(start + LABEL_CHUNK, len(records))
        examples = records.parse(list(range(start, stop)))
        for row, example in zip(rows[start:stop], examples, strict=True):
            # `labels` has difficult objects too. A class with no others stays 0.
            row[list(example["labels"].int64_list.value)] = 0
            row[list(example["labels_no_difficult"].int64_list.value)] = 1
    return names, rows


def check_disjoint(
    names: dict[str, str], ranges: dict[str, list[tuple[str, int, int]]]
) -> None:
    """Raise `InputError` if the ranges of records of both splits overlap.

    `names` holds the names of both splits.
    """
    for file, start, stop in ranges["train"]:
        for other, first, last in ranges["test"]:
            if file == other and start < last and first < stop:
                raise InputError(
                    f"the training split {names['train']!r} and the test split "
                    f"{names['test']!r} share images; choose splits that do not."
                )
