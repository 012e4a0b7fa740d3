"""Lists the pictures of a folder, and the other files in it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from byol_bnfree.data.formats import ending_of, is_numpy, is_picture
from byol_bnfree.data.names import printable, some
from byol_bnfree.errors import InputError

# Folders that systems add. Some are full of small copies of the pictures.
SYSTEM = frozenset(
    {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information"}
)
# A folder with both is the work folder of a run. Its pictures are figures.
OF_A_RUN = ("config.json", "dataset.json")
WORK_FOLDER = "work folder of runs"
EXAMPLES = 3  # names given for each kind
HIDDEN = "hidden"
NOWHERE = "link to nothing"  # perhaps to a class on a disk that is not mounted
NOT_FOLLOWED = "link that cannot be followed"
UNLABELLED = ""  # the class of pictures without a class

Classes = dict[str, list[str]]  # sorted paths by class


@dataclass
class Unused:
    """Files that we found but do not use: the number of each kind, and some names."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Sentences about whole splits."""

    def add(self, kind: str, path: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        known = self.examples.setdefault(kind, [])
        if len(known) < EXAMPLES:
            known.append(printable(path))

    def add_all(self, other: "Unused") -> None:
        """Add the files that another search found."""
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            known = self.examples.setdefault(kind, [])
            known.extend(other.examples[kind][: EXAMPLES - len(known)])

    def describe(self) -> dict[str, dict]:
        """Return the content for dataset.json."""
        return {
            kind: {"files": count, "examples": self.examples[kind]}
            for kind, count in sorted(self.counts.items())
        }

    def sentence(self, root: str) -> str:
        """Return one line of text. Paths are relative to `root`."""
        above = printable(root).rstrip("/") + "/"
        kinds = sorted(self.counts.items(), key=lambda item: -item[1])
        parts = [
            f"{count:,} {kind} ({self.examples[kind][0].removeprefix(above)}"
            f"{', ...' if count > 1 else ''})"
            for kind, count in kinds
        ]
        total = sum(self.counts.values())
        return f"{total:,} file{'s' * (total > 1)} not used: {some(parts, 6)}"


def list_folder(path: str | Path, unused: Unused) -> tuple[list[str], list[str]]:
    """Return the folders, and the files with a picture's ending; both sorted.

    NumPy files count as pictures only in a folder without other pictures or subfolders.
    Elsewhere they are taken for data about the pictures.

    Raises:
      InputError: if the folder cannot be listed.
    """
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"{printable(path)} cannot be listed: {error.strerror}."
        ) from error
    folders, pictures = [], []
    for entry in entries:
        name = entry.name
        if name.startswith(".") or name.lower() in SYSTEM:
            unused.add(HIDDEN, entry.path)
        elif _is_folder(entry):
            if _is_of_runs(entry.path):
                unused.add(WORK_FOLDER, entry.path)
            else:
                folders.append(entry.path)
        elif is_picture(name):  # a broken link also counts; reading it will fail
            pictures.append(entry.path)
        elif entry.is_symlink() and (kind := _lost(entry.path)) is not None:
            unused.add(kind, entry.path)
        else:
            unused.add(ending_of(printable(name)) or "without an ending", entry.path)
    arrays = [path for path in pictures if is_numpy(path)]
    if arrays and (folders or len(arrays) < len(pictures)):
        for path in arrays:
            unused.add(ending_of(path), path)
        pictures = [path for path in pictures if not is_numpy(path)]
    return folders, pictures


def _is_folder(entry: os.DirEntry) -> bool:
    """Return True for a folder, or for a link that leads to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, through a file, or into a locked folder
        return False


def _is_of_runs(folder: str) -> bool:
    """Return True for the work folder of a run, and for a folder of nothing else."""
    if all(os.path.isfile(os.path.join(folder, name)) for name in OF_A_RUN):
        return True
    try:
        with os.scandir(folder) as found:
            # A class has a file, at which this ends.
            kinds = map(_is_work_entry, found)
            return next(kinds, False) and all(kinds)
    except OSError:  # whoever lists it says why
        return False


def _is_work_entry(entry: os.DirEntry) -> bool:
    return entry.is_dir(follow_symlinks=False) and _is_of_runs(entry.path)


def _lost(link: str) -> str | None:
    """Return the kind of a link that leads nowhere; None if it leads to a file."""
    try:
        os.stat(link)
    except FileNotFoundError:
        return NOWHERE
    except OSError:
        return NOT_FOLLOWED
    return None


def pictures_below(root: str | Path, unused: Unused) -> list[str]:
    """Return the pictures at any depth, sorted."""
    return sorted(_walk(str(root), unused))


def _walk(root: str, unused: Unused) -> Iterator[str]:
    """Yield pictures. A link back to a folder above is not followed."""
    waiting = [(root, frozenset([_identity(root)]))]
    while waiting:
        path, above = waiting.pop()
        folders, pictures = list_folder(path, unused)
        yield from pictures
        for folder in folders:
            identity = _identity(folder)
            if identity in above:
                unused.add("link to a folder above it", folder)
            else:
                waiting.append((folder, above | {identity}))


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise InputError(
            f"{printable(folder)} cannot be listed: {error.strerror}."
        ) from error
    return status.st_dev, status.st_ino


def list_classes(root: str | Path, unused: Unused) -> Classes:
    """Return the pictures at any depth below each folder of `root`, by class.

    If `root` has no folders, its own pictures are returned without a class.

    Raises:
      InputError: if there are both folders and pictures or neither, and if a class has
        no pictures.
    """
    folders, pictures = list_folder(root, unused)
    if folders and pictures:
        raise InputError(
            f"{printable(root)} holds both pictures and folders; move "
            f"{printable(pictures[0])} and the others into the folders of their "
            f"classes, or use all pictures without classes (--data.unlabelled)."
        )
    if pictures:
        return {UNLABELLED: pictures}
    classes = {}
    for folder in folders:
        # A count of its own, for the message about this class.
        lost = Unused()
        classes[os.path.basename(folder)] = pictures_below(folder, lost)
        if not classes[os.path.basename(folder)]:
            there = f" ({lost.sentence(folder)})" if lost.counts else ""
            raise InputError(
                f"class {printable(os.path.basename(folder))} of {printable(root)} has "
                f"no pictures{there}; add some, or move its folder away."
            )
        unused.add_all(lost)
    if not classes:
        raise InputError(
            f"{printable(root)} holds no pictures; put pictures into PATH/<class>/ or "
            f"PATH/, with endings such as .jpg or .png."
        )
    return classes
