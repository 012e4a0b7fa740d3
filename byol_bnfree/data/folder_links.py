"""Pictures of a folder that are links to one file, or copies of one."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from byol_bnfree.errors import InputError

if TYPE_CHECKING:
    from byol_bnfree.data.folder import FolderRecords

MOST_READ = 4000  # files, and
MOST_BYTES = 2**28  # bytes, that are read to find copies
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


def copies(train: "FolderRecords", test: "FolderRecords") -> list[str]:
    """Return a note about test pictures whose bytes are those of a training picture.

    Only files of a size that both splits have are read, and of these a limited number,
    spread evenly over the test split.
    """
    by_size: dict[int, list[int]] = {}
    for k, size in enumerate(train.sizes.tolist()):
        by_size.setdefault(size, []).append(k)
    likely = [k for k, size in enumerate(test.sizes.tolist()) if size in by_size]
    chosen = _affordable(likely, test.sizes, by_size)
    rows = sorted({k for size in {*test.sizes[chosen]} for k in by_size[size]})
    trained = dict(zip(_contents(train, rows), rows, strict=True))
    trained.pop(None, None)
    found = [
        (k, trained[content])
        for k, content in zip(chosen, _contents(test, chosen), strict=True)
        if content in trained
    ]
    if not found:
        return []
    names = [
        split.file_names(np.array([k]))[0]
        for split, k in zip((test, train), found[0], strict=True)
    ]
    looked = len(test) - len(likely) + len(chosen)
    return [
        f"{len(found):,} of {looked:,} test pictures checked are copies of training "
        f"pictures ({' and '.join(names)} are equal), which makes accuracies too high; "
        f"remove the copies from one split"
    ]


def _affordable(
    likely: list[int], sizes: Int64[np.ndarray, " n"], by_size: dict[int, list[int]]
) -> list[int]:
    """Return test pictures that can be compared without reading too much."""
    # One of every few first, then those between them.
    steps = [2**power for power in reversed(range(max(1, len(likely)).bit_length()))]
    order = dict.fromkeys(k for step in steps for k in likely[::step])
    chosen, known, files, read = [], set(), 0, 0
    for k in order:
        size = int(sizes[k])
        more = 1 + (0 if size in known else len(by_size[size]))
        if files + more > MOST_READ or read + more * size > MOST_BYTES:
            continue
        known.add(size)
        files, read = files + more, read + more * size
        chosen.append(k)
    return sorted(chosen)


def _contents(records: "FolderRecords", rows: list[int]) -> list[bytes | None]:
    """Return a checksum of each file; None if it cannot be read."""

    def digest(row: int) -> bytes | None:
        try:
            return hashlib.sha256(Path(records.paths[row]).read_bytes()).digest()
        except OSError:
            return None

    with ThreadPoolExecutor() as threads:
        return list(threads.map(digest, rows))


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
