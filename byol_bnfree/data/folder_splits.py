"""Finds the splits of a folder of pictures: two folders, or a held-out part."""

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.listing import (
    UNLABELLED,
    Classes,
    Unused,
    list_classes,
    list_folder,
    pictures_below,
)
from byol_bnfree.data.names import printable, some
from byol_bnfree.data.records import needs_test
from byol_bnfree.errors import InputError

SPLIT_NAMES = frozenset({"train", "test", "val", "validation"})  # never classes
# No classes either where a folder has no other names.
MORE_SPLIT_NAMES = SPLIT_NAMES | {"training", "testing", "valid", "dev", "eval"}
HELD_OUT = 0.1  # share of each class in the test split
BESIDE = "pictures beside the splits"


def list_splits(
    root: Path, config: TrainConfig, unused: Unused
) -> tuple[Classes, Classes]:
    """Return the training and the test pictures by class; see `folder`.

    Raises:
      InputError: if the folder has no such splits, and as `list_classes`.
    """
    # Counted only if `root` holds splits. Otherwise `_list_one` lists it again.
    ignored = Unused()
    folders, pictures = list_folder(root, ignored)
    names = {os.path.basename(path) for path in folders}
    wanted = config.data.train_split, config.data.test_split
    train, test = (_named(name, names, root) for name in wanted)
    if train is not None:
        if (test is None or test == train) and needs_test(config):
            raise InputError(
                f"the test split {wanted[1]!r} is not a folder of {printable(root)} "
                f"beside {wanted[0]!r} (folders: {_list_names(names)}); name the "
                f"test split with --data.test-split (--test-split in evaluate), give "
                f"folder:{printable(root / train)} to hold out a tenth of it, or train "
                f"without a test split (--evaluation.skip)."
            )
        kept = {train, test}
        _count_others(root, names - kept, [*pictures], unused)
        unused.add_all(ignored)
        found = _list_one(root / train, config, unused)
        if test is None or test == train:
            return found, {}
        return found, _list_test(root / test, found, config, unused)
    # Whoever names a split wants that split, and not a tenth that we hold out.
    if _are_splits(names) or wanted != ("train", "test"):
        raise InputError(
            f"the training split {wanted[0]!r} is not a folder of {printable(root)} "
            f"(folders: {_list_names(names)}); name one with --data.train-split "
            f"(--train-split in evaluate), or rename it, because embed and predict "
            f"take train and test."
        )
    train_files, test_files = {}, {}
    for name, paths in _list_one(root, config, unused).items():
        held_out = _held_out(root, paths)
        unlabelled = name == UNLABELLED
        train_files[name] = paths if unlabelled else sorted({*paths} - {*held_out})
        test_files[name] = held_out
    return train_files, {name: paths for name, paths in test_files.items() if paths}


def _check_classes(root: Path, train: Classes, test: Classes) -> None:
    unknown = test.keys() - train.keys()
    if unknown:
        named = some(sorted(map(printable, unknown - {UNLABELLED})))
        raise InputError(
            f"the test split of {printable(root)} has "
            f"{named or 'pictures without a class'}, which its train split lacks; sort "
            f"both into the same classes, give folder:PATH of the train split to hold "
            f"out a tenth of it, or use all pictures without classes "
            f"(--data.unlabelled)."
        )


def _are_splits(names: Collection[str]) -> bool:
    """Whether folders are splits and not classes, by their names."""
    found = {name.casefold() for name in names}
    return bool(found & SPLIT_NAMES or found and found <= MORE_SPLIT_NAMES)


def _list_test(
    folder: Path, train: Classes, config: TrainConfig, unused: Unused
) -> Classes:
    """Return the test pictures by class; {} if they cannot be used nor are needed."""
    found = Unused()
    try:
        test = _list_one(folder, config, found)
        _check_classes(folder.parent, train, test)
    except InputError as error:
        if needs_test(config):
            raise
        unused.notes.append(f"the test split is not used: {error}")
        return {}
    unused.add_all(found)
    return test


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
