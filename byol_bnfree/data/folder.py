"""Pictures in folders: `folder:PATH`.

There are three layouts. A class is always the first folder; its pictures may be deeper.

- `PATH/{train,test}/<class>/**`. data.train_split and data.test_split name the folders,
  in upper or lower case.
- `PATH/<class>/**`. A tenth of every class is held out as the test split. A hash of the
  file's name chooses it, so no image is in both splits, and adding a picture moves at
  most one other picture.
- `PATH/*`, or `PATH/**` with data.unlabelled. There are no labels and no evaluation.
  Training uses all pictures. The test split is a tenth of them, by the same hash.
"""

import os
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32, Int64

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.eight_bits import conversion
from byol_bnfree.data.fingerprint import checksum, facts
from byol_bnfree.data.folder_links import check_apart, copies, in_two_classes
from byol_bnfree.data.folder_splits import list_splits
from byol_bnfree.data.listing import (
    UNLABELLED,
    Classes,
    Unused,
)
from byol_bnfree.data.names import printable, some
from byol_bnfree.data.records import Found, needs_test
from byol_bnfree.data.scan import Scan, scan
from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded


@dataclass
class FolderRecords:
    """The paths of one split, by index; see `records.Records`."""

    name: str
    split: str
    class_names: tuple[str, ...]
    stored_shape: tuple[int | None, int | None, int]
    total: int
    skipped: dict[str, str]
    root: str
    paths: list[str]
    targets: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: Int[np.ndarray, " b"]) -> list[tuple[str, str]]:
        """Return a printable name and the path of each picture."""
        return [(printable(self.paths[i]), self.paths[i]) for i in indices]

    def labels(self, indices: Int[np.ndarray, " b"]) -> Int32[np.ndarray, " b"]:
        return self.targets[indices]

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return printable paths, relative to the folder."""
        return [printable(self._relative[i]) for i in indices]

    @property
    def location(self) -> str:
        return printable(self.root)

    @cached_property
    def identity(self) -> str:
        """A checksum of the files' names below the folder, sizes and classes."""
        return checksum(self._names, self._files[:, 0], self.targets)

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of the files and their modification times."""
        return checksum(self.location, self.identity, self._files[:, 1])

    @cached_property
    def _names(self) -> list[str]:
        return [printable(name) for name in self._relative]

    @cached_property
    def _relative(self) -> list[str]:
        above = len(self.root.rstrip(os.sep)) + 1
        return [path[above:] for path in self.paths]

    @cached_property
    def _files(self) -> Int64[np.ndarray, "n 4"]:
        return facts(self.paths)

    @property
    def sizes(self) -> Int64[np.ndarray, " n"]:
        """Bytes of each file; -1 if it is missing."""
        return self._files[:, 0]

    @property
    def inodes(self) -> Int64[np.ndarray, "n 2"]:
        """Inode and disk of each file. Links to one file share them."""
        return self._files[:, 2:]


def open_folder(config: TrainConfig) -> Found:
    """Open both splits of `folder:PATH`, after reading the pictures' headers.

    Raises:
      InputError: for a missing or empty folder, and for classes without pictures or
        without training pictures. Under on_bad_image="stop" also for the first picture
        whose header cannot be read.
    """
    path = config.dataset.removeprefix("folder:")
    root = expanded(path)
    if not path or not os.path.isdir(root):
        raise InputError(
            f"folder {printable(path)!r} does not exist; give the path of one, as "
            f"folder:PATH."
        )
    root = root.resolve()
    unused = Unused()
    train, test = list_splits(root, config, unused)
    # Both splits may have a file by links. Its header is read once.
    everything = [*{p: 0 for classes in (train, test) for p in _flatten(classes)}]
    seen = scan(everything, conversion(config.data), config.on_bad_image == "skip")
    names = sorted(name for name in train if name != UNLABELLED)
    total = len(_flatten(train)) + len(_flatten(test))
    records = [
        _records(root, split, classes, names, seen, total)
        for split, classes in (("train", train), ("test", test))
    ]
    _check_usable(records[0], names)
    notes = [*unused.notes, *seen.notes]
    if names and needs_test(config):
        check_apart(*records)
        notes += copies(*records)
    if unused.counts:
        notes.append(unused.sentence(str(root)))
    if names:
        notes += _of_classes(names, records)
    return Found(
        records[0],
        records[1] if len(records[1]) else None,
        notes,
        unused.describe(),
        seen.why,
    )


def _of_classes(names: list[str], records: list[FolderRecords]) -> list[str]:
    notes = [note for split in records for note in in_two_classes(split)]
    notes += _alike(names)
    if len(names) == 1:
        notes.append(
            f"there is one class, {printable(names[0])}; if this folder is not a "
            f"class, give --data.unlabelled"
        )
    return notes


def _records(
    root: Path,
    split: str,
    classes: Classes,
    names: list[str],
    seen: Scan,
    total: int,
) -> FolderRecords:
    number = {UNLABELLED: -1} | {name: k for k, name in enumerate(names)}
    paths = {path: number[name] for name, found in classes.items() for path in found}
    kept = {path: label for path, label in paths.items() if path not in seen.bad}
    skipped = [seen.bad[path] for path in paths if path in seen.bad]
    return FolderRecords(
        name=printable(root.name),
        split=split,
        class_names=tuple(map(printable, names)),
        stored_shape=seen.shape,
        total=total,
        skipped={bad.name: bad.reason for bad in skipped},
        root=str(root),
        paths=list(kept),
        targets=np.fromiter(kept.values(), np.int32),
    )


def _check_usable(train: FolderRecords, names: list[str]) -> None:
    """Raise `InputError` if a class has lost all its training pictures as bad ones."""
    if not len(train):
        raise InputError(
            f"the train split of {train.location} has no usable picture "
            f"({some(train.skipped)}: bad); add some."
        )
    counts = np.bincount(train.targets[train.targets >= 0], minlength=len(names))
    empty = [printable(name) for name, n in zip(names, counts, strict=True) if not n]
    if empty:
        raise InputError(
            f"class {empty[0]} of {train.location} has no usable picture for training; "
            f"add some, or move its folder away."
        )


def _alike(names: list[str]) -> list[str]:
    """Return a note about classes whose names differ in case or encoding only."""
    found: dict[str, list[str]] = {}
    for name in names:
        plain = unicodedata.normalize("NFKC", name).casefold().strip()
        found.setdefault(plain, []).append(printable(name))
    pairs = [" and ".join(group) for group in found.values() if len(group) > 1]
    return [f"different classes with nearly one name: {some(pairs)}"] if pairs else []


def _flatten(classes: Classes) -> list[str]:
    return [path for paths in classes.values() for path in paths]
