"""Pictures of a folder that are links to one file."""

from typing import TYPE_CHECKING

import numpy as np

from byol_bnfree.errors import InputError

if TYPE_CHECKING:
    from byol_bnfree.data.folder import FolderRecords

MISSING = (-1, -1)  # inode and disk of a file that is not there


def check_apart(train: "FolderRecords", test: "FolderRecords") -> None:
    """Raise `InputError` if a test picture is also trained on, by a link."""
    trained = {tuple(file): k for k, file in enumerate(train.inodes.tolist())}
    trained.pop(MISSING, None)
    tested = enumerate(map(tuple, test.inodes.tolist()))
    shared = [(k, trained[file]) for k, file in tested if file in trained]
    if shared:
        ours, theirs = (
            split.file_names(np.array([k]))[0]
            for split, k in zip((test, train), shared[0], strict=True)
        )
        raise InputError(
            f"{len(shared):,} of {len(test):,} test pictures of {train.location} are "
            f"training pictures too ({ours} and {theirs} are one file); remove the "
            f"links from one split, or train without evaluation (--evaluation.skip)."
        )


def in_two_classes(records: "FolderRecords") -> list[str]:
    """Return a note about files that several classes hold, as links."""
    known: dict[tuple, int] = {}
    found = []
    for k, file in enumerate(map(tuple, records.inodes.tolist())):
        first = known.setdefault(file, k)
        if file != MISSING and records.targets[first] != records.targets[k]:
            found.append((first, k))
    if not found:
        return []
    pair = " and ".join(records.file_names(np.array(found[0])))
    return [
        f"{len(found):,} of {len(records):,} pictures of the {records.split} split are "
        f"links to a picture of another class ({pair} are one file); keep one of them, "
        f"unless both classes are right"
    ]
