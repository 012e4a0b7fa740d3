"""Finds the files of a dense folder, and pairs each picture with its targets."""

from pathlib import Path

from byol_bnfree.data.dense.example import IGNORE
from byol_bnfree.data.formats import ending_of
from byol_bnfree.data.listing import Unused, list_folder, pictures_below
from byol_bnfree.data.names import printable, some
from byol_bnfree.errors import InputError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def files_by_stem(folder: Path, unused: Unused) -> dict[str, Path]:
    """Return the pictures of a folder by their names without ending, sorted.

    Hidden files, files with other endings and pictures in subfolders are no pictures of
    a dense folder. They are added to `unused`.
    """
    if not folder.is_dir():
        return {}
    folders, files = list_folder(folder, unused)
    for file in (file for inner in folders for file in pictures_below(inner, unused)):
        unused.add("in a subfolder", file)
    found = []
    for file in map(Path, files):
        if file.suffix.lower() in PICTURES:
            found.append(file)
        else:
            unused.add(ending_of(printable(file.name)), str(file))
    by_stem = {file.stem: file for file in found}
    if len(by_stem) < len(found):
        double = next(f for f in found if by_stem[f.stem] != f)
        names = some(printable(f.name) for f in (double, by_stem[double.stem]))
        raise InputError(
            f"{printable(folder)} has two files of one name, {names}; a picture and "
            f"its mask or depth belong together by their names, so rename one of them."
        )
    return by_stem


def file_of_each(
    images: dict[str, Path], files: dict[str, Path], part: str, below: Path
) -> dict[str, Path]:
    """Return the file of each picture. If there are any, there must be all."""
    missing = [stem for stem in images if stem not in files]
    if files and missing:
        raise InputError(
            f"{len(missing):,} of {len(images):,} pictures of {printable(below)} have "
            f"no file in {part}/ ({some(map(printable, missing))}); add them, or move "
            f"the pictures away."
        )
    return {stem: files[stem] for stem in images} if files else {}


def named_classes(root: Path) -> tuple[str, ...]:
    """Return the names in classes.txt, or nothing if there is no such file.

    The number of a line is that of its class, so no line but the last may be empty.
    """
    file = root / "classes.txt"
    if not file.is_file():
        return ()
    lines = file.read_text(errors="surrogateescape").rstrip().splitlines()
    names = tuple(printable(line.strip()) for line in lines)
    if "" in names:
        raise InputError(
            f"{printable(file)} has no name in line {names.index('') + 1}; the number "
            f"of a line is that of its class, so remove the line or name the class."
        )
    if len(names) > IGNORE:
        raise InputError(
            f"{printable(file)} names {len(names)} classes; a mask of one byte has at "
            f"most {IGNORE}, because {IGNORE} is ignored."
        )
    return names


def add_unpaired(
    images: dict[str, Path], files: dict[str, Path], part: str, unused: Unused
) -> None:
    """Add the files of `part` that have no picture to the unused ones."""
    for stem, file in files.items():
        if stem not in images:
            unused.add(f"in {part}/ without a picture", str(file))
