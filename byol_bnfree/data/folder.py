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

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32, Int64

from byol_bnfree.config import InputError, TrainConfig
from byol_bnfree.data.decode import conversion
from byol_bnfree.data.fingerprint import checksum, sizes_and_times
from byol_bnfree.data.listing import (
    UNLABELLED,
    Classes,
    Unused,
    list_classes,
    list_folder,
    pictures_below,
)
from byol_bnfree.data.names import printable, some
from byol_bnfree.data.records import Found, needs_test
from byol_bnfree.data.scan import Scan, scan

SPLIT_NAMES = frozenset({"train", "test", "val", "validation"})  # never classes
HELD_OUT = 0.1
BESIDE = "pictures beside the splits"


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

    @property
    def _names(self) -> list[str]:
        return [printable(name) for name in self._relative]

    @cached_property
    def _relative(self) -> list[str]:
        above = len(self.root.rstrip(os.sep)) + 1
        return [path[above:] for path in self.paths]

    @cached_property
    def _files(self) -> Int64[np.ndarray, "n 2"]:
        return sizes_and_times(self.paths)


def open_folder(config: TrainConfig) -> Found:
    """Open both splits of `folder:PATH`, after reading the pictures' headers.

    Raises:
      InputError: for a missing or empty folder, and for classes without pictures or
        without training pictures. Under on_bad_image="stop" also for the first picture
        whose header cannot be read.
    """
    path = config.dataset.removeprefix("folder:")
    root = Path(os.path.expanduser(path))
    if not path or not os.path.isdir(root):
        raise InputError(
            f"folder {printable(path)!r} does not exist; give --dataset=folder:PATH."
        )
    root = root.resolve()
    unused = Unused()
    train, test = _list_splits(root, config, unused)
    _check_classes(root, train, test)
    everything = [*{p: 0 for classes in (train, test) for p in _flatten(classes)}]
    seen = scan(everything, conversion(config.data), config.on_bad_image == "skip")
    names = sorted(name for name in train if name != UNLABELLED)
    total = len(_flatten(train)) + len(_flatten(test))
    records = [
        _records(root, split, classes, names, seen, total)
        for split, classes in (("train", train), ("test", test))
    ]
    _check_usable(records[0], names)
    notes = list(seen.notes)
    if unused.counts:
        notes.append(unused.sentence(str(root)))
    if len(names) == 1:
        notes.append(
            f"there is one class, {printable(names[0])}; if this folder is no class, "
            f"give --data.unlabelled"
        )
    return Found(
        records[0],
        records[1] if len(records[1]) else None,
        notes,
        unused.describe(),
        seen.why,
    )


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


def _check_classes(root: Path, train: Classes, test: Classes) -> None:
    unknown = test.keys() - train.keys()
    if unknown:
        named = some(sorted(map(printable, unknown - {UNLABELLED})))
        raise InputError(
            f"the test split of {printable(root)} has "
            f"{named or 'pictures without a class'}, which its train split lacks; sort "
            f"both into the same classes."
        )


def _check_usable(train: FolderRecords, names: list[str]) -> None:
    """Raise `InputError` if a class has lost all its training pictures as bad ones."""
    if not len(train):
        raise InputError(
            f"the train split of {train.location} has no usable picture "
            f"({some(train.skipped)}: bad); give it some."
        )
    counts = np.bincount(train.targets[train.targets >= 0], minlength=len(names))
    empty = [printable(name) for name, n in zip(names, counts, strict=True) if not n]
    if empty:
        raise InputError(
            f"class {empty[0]} of {train.location} has no usable picture for training; "
            f"give it some, or move its folder away."
        )


def _flatten(classes: Classes) -> list[str]:
    return [path for paths in classes.values() for path in paths]


def _list_splits(
    root: Path, config: TrainConfig, unused: Unused
) -> tuple[Classes, Classes]:
    """Return the training and the test pictures by class."""
    ignored = Unused()
    folders, pictures = list_folder(root, ignored)
    names = {os.path.basename(path) for path in folders}
    wanted = config.data.train_split, config.data.test_split
    train, test = (_named(name, names, root) for name in wanted)
    if train is not None:
        if (test is None or test == train) and needs_test(config):
            raise InputError(
                f"--data.test-split {wanted[1]!r} is not a folder of {printable(root)} "
                f"beside {wanted[0]!r} (folders: {_list_names(names)}); name one with "
                f"--data.test-split, give folder:{printable(root / train)} to hold a "
                f"tenth of it out, or train without one by --evaluation.skip."
            )
        kept = {train, test}
        _count_others(root, names - kept, [*pictures], unused)
        unused.add_all(ignored)
        listed = [
            {} if name is None else _list_one(root / name, config, unused)
            for name in (train, None if test == train else test)
        ]
        return listed[0], listed[1]
    if {n.casefold() for n in names} & SPLIT_NAMES or wanted != ("train", "test"):
        raise InputError(
            f"--data.train-split {wanted[0]!r} is not a folder of {printable(root)} "
            f"(folders: {_list_names(names)}); name one with --data.train-split."
        )
    train_files, test_files = {}, {}
    for name, paths in _list_one(root, config, unused).items():
        held_out = _held_out(root, paths)
        unlabelled = name == UNLABELLED
        train_files[name] = paths if unlabelled else sorted({*paths} - {*held_out})
        test_files[name] = held_out
    return train_files, {name: paths for name, paths in test_files.items() if paths}


def _list_one(folder: Path, config: TrainConfig, unused: Unused) -> Classes:
    """Return the classes of a split, or of the whole folder."""
    if not config.data.unlabelled:
        return list_classes(folder, unused)
    pictures = pictures_below(folder, unused)
    if not pictures:
        raise InputError(
            f"{printable(folder)} holds no pictures at any depth; give a folder that "
            f"does."
        )
    return {UNLABELLED: pictures}


def _named(wanted: str, names: Collection[str], root: Path) -> str | None:
    """Return the folder with this name, in upper or lower case."""
    if wanted in names:
        return wanted
    alike = sorted(name for name in names if name.casefold() == wanted.casefold())
    if len(alike) > 1:
        raise InputError(
            f"{printable(root)} has the folders {' and '.join(map(printable, alike))}; "
            f"rename one, so that it is clear which is {wanted}."
        )
    return alike[0] if alike else None


def _list_names(names: Collection[str]) -> str:
    return some(sorted(map(printable, names)), 10) or "none"


def _count_others(
    root: Path, folders: Collection[str], pictures: list[str], unused: Unused
) -> None:
    """Count the pictures outside of the splits' folders."""
    for folder in sorted(folders):
        pictures = [*pictures, *pictures_below(root / folder, Unused())]
    for path in pictures:
        unused.add(BESIDE, path)


def _held_out(root: Path, paths: list[str]) -> list[str]:
    """Return a fixed tenth of the pictures, sorted; at least one of two pictures."""

    def rank(path: str) -> bytes:
        return hashlib.sha256(os.fsencode(os.path.relpath(path, root))).digest()

    count = max(round(HELD_OUT * len(paths)), int(len(paths) > 1))
    return sorted(sorted(paths, key=rank)[:count])
