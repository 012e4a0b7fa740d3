"""Pictures in folders: `folder:PATH`.

Three layouts are known:
- `PATH/{train,test}/<class>/*`: the folders named by data.train_split and .test_split;
- `PATH/<class>/*`: a tenth of every class is held out as the test split, chosen by a
  hash of the file's name, so that no image is both trained on and evaluated on, and
  a picture added later moves at most one other;
- `PATH/*`: no labels, so nothing to evaluate. Training uses all; the test split is a
  tenth of it, by the same hash.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int, Int32

from byol_bnfree.config import InputError, TrainConfig
from byol_bnfree.data.decode import BadImage, read_header

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SPLIT_NAMES = frozenset({"train", "test", "val", "validation"})  # never classes
HELD_OUT = 0.1
SCAN_LIMIT = 200_000  # headers read at open, about 0.1 ms each; beyond, none is
UNLABELLED = ""  # stands for the class of pictures that have none

Classes = dict[str, list[str]]  # paths by class


@dataclass
class FolderRecords:
    """Paths of one split by index; see `records.Records`."""

    name: str
    split: str
    class_names: tuple[str, ...]
    stored_shape: tuple[int | None, int | None, int]
    total: int
    skipped: list[str]
    paths: list[str]
    targets: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: Int[np.ndarray, " b"]) -> list[tuple[str, str]]:
        """Printable name and path of each."""
        return [(_printable(self.paths[i]), self.paths[i]) for i in indices]

    def labels(self, indices: Int[np.ndarray, " b"]) -> Int32[np.ndarray, " b"]:
        return self.targets[indices]


def open_folder(config: TrainConfig, split: Literal["train", "test"]) -> FolderRecords:
    """One split of `folder:PATH`, after a look at every header of both splits.

    Raises `InputError` for a missing or empty folder, classes that train lacks, and,
    under on_bad_image="stop", the first picture whose header cannot be read.
    """
    path = config.dataset.removeprefix("folder:")
    root = Path(os.path.expanduser(path))
    if not path or not os.path.isdir(root):
        raise InputError(f"folder {path!r} does not exist; give --dataset=folder:PATH.")
    splits = dict(zip(("train", "test"), _list_splits(root, config), strict=True))
    _check_classes(root, splits)
    everything = [path for classes in splits.values() for path in _flatten(classes)]
    shape, bad = _scan(everything, config.on_bad_image == "skip")
    names = [name for name in sorted(splits["train"]) if name != UNLABELLED]
    number = {UNLABELLED: -1} | {name: k for k, name in enumerate(names)}
    kept = {
        path: number[name]
        for name, paths in splits[split].items()
        for path in paths
        if path not in bad
    }
    return FolderRecords(
        name=root.resolve().name,
        split=split,
        class_names=tuple(names),
        stored_shape=shape,
        total=len(everything),
        skipped=[_printable(p) for p in _flatten(splits[split]) if p in bad],
        paths=list(kept),
        targets=np.fromiter(kept.values(), np.int32),
    )


def _check_classes(root: Path, splits: dict[str, Classes]) -> None:
    unknown = splits["test"].keys() - splits["train"].keys()
    if unknown:
        named = ", ".join(sorted(unknown - {UNLABELLED})) or "pictures without a class"
        raise InputError(
            f"the test split of {root} has {named}, which its train split lacks; "
            f"sort both into the same classes."
        )


def _flatten(classes: Classes) -> list[str]:
    return [path for paths in classes.values() for path in paths]


def _list_splits(root: Path, config: TrainConfig) -> tuple[Classes, Classes]:
    """Train and test pictures by class."""
    train, test = config.data.train_split, config.data.test_split
    folders = {os.path.basename(path) for path in _list_folder(root)[0]}
    found = ", ".join(sorted(folders)[:10]) or "none"
    if train in folders:
        if test not in folders or test == train:
            raise InputError(
                f"--data.test-split {test!r} is not a folder of {root} beside "
                f"{train!r} (folders: {found}); name one with --data.test-split, "
                f"or give folder:{root / train} to hold a tenth of it out."
            )
        return _list_classes(root / train), _list_classes(root / test)
    if folders & SPLIT_NAMES or (train, test) != ("train", "test"):
        raise InputError(
            f"--data.train-split {train!r} is not a folder of {root} (folders: "
            f"{found}); name one with --data.train-split."
        )
    train_files, test_files = {}, {}
    for name, paths in _list_classes(root).items():
        held_out = _held_out(root, paths)
        unlabelled = name == UNLABELLED
        train_files[name] = paths if unlabelled else sorted({*paths} - {*held_out})
        test_files[name] = held_out
    return train_files, test_files


def _list_classes(root: Path) -> Classes:
    """Sorted pictures of each class folder, or of `root` itself as UNLABELLED."""
    folders, pictures = _list_folder(root)
    classes = {os.path.basename(path): _list_folder(path)[1] for path in folders}
    classes = {name: paths for name, paths in classes.items() if paths}
    if classes and pictures:
        raise InputError(
            f"{root} holds both pictures and folders of pictures; move {pictures[0]} "
            f"and its like into a folder of their class."
        )
    if not classes and not pictures:
        raise InputError(
            f"{root} holds no pictures; it should have PATH/<class>/* or PATH/* ending "
            f"in {' '.join(EXTENSIONS)}."
        )
    return classes or {UNLABELLED: pictures}


def _list_folder(path: str | Path) -> tuple[list[str], list[str]]:
    """Folders, and files with a picture's extension, both sorted; hidden ones not."""
    try:
        with os.scandir(path) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{path} cannot be listed: {error.strerror}.") from error
    folders = sorted(entry.path for entry in visible if entry.is_dir())
    pictures = [e.path for e in visible if e.name.lower().endswith(EXTENSIONS)]
    return folders, sorted({*pictures} - {*folders})


def _held_out(root: Path, paths: list[str]) -> list[str]:
    """A fixed tenth of the pictures (at least one of two), sorted."""

    def rank(path: str) -> bytes:
        return hashlib.sha256(os.fsencode(os.path.relpath(path, root))).digest()

    count = max(round(HELD_OUT * len(paths)), int(len(paths) > 1))
    return sorted(sorted(paths, key=rank)[:count])


def _scan(
    paths: list[str], skip: bool
) -> tuple[tuple[int | None, int | None, int], set[str]]:
    """The shape that all pictures share (None where they differ), and the bad ones."""
    if len(paths) > SCAN_LIMIT:
        return (None, None, 3), set()

    def look(path: str) -> tuple[int, int, bool] | BadImage:
        try:
            return read_header(path, _printable(path))
        except BadImage as bad:
            return bad

    bad, heights, widths, grayscale = set(), set(), set(), True
    with ThreadPoolExecutor() as threads:
        for path, header in zip(paths, threads.map(look, paths), strict=True):
            if isinstance(header, BadImage):
                if not skip:
                    threads.shutdown(cancel_futures=True)
                    raise header.stop() from header
                bad.add(path)
                continue
            heights.add(header[0])
            widths.add(header[1])
            grayscale &= header[2]
    height = heights.pop() if len(heights) == 1 else None
    width = widths.pop() if len(widths) == 1 else None
    return (height, width, 1 if grayscale else 3), bad


def _printable(path: str) -> str:
    """A name that any terminal accepts, even if its bytes are not UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")
